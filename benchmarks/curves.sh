#!/usr/bin/env bash
# The curves of docs/curves.md: every method at the same costs. What a stopped run has left is not
# done again.
#
#     benchmarks/curves.sh PART [OPTION of vidprune curves ...]
#
# generated: the demo's model on generated clips of its own, from 90 % of the dense arithmetic down to
# 30 %. jhmdb: the models that benchmarks/jhmdb.sh trains, on the test lists of the three splits in
# ../shared/jhmdb or $JHMDB, at the same costs; actors, actors-generated: of these records' points what
# stays of the actors. choices-generated: what the paper ablates. generated-low, jhmdb-low: 20 and 15 %,
# which take earlier stages. beyond, beyond-6-blocks, beyond-jhmdb: our own method and what it
# has to beat, on the demo's model, on one of half its depth, and on J-HMDB; beyond-30: the first two at
# 30 %; beyond-choices: what it can be made of, on other clips, by which it was chosen.
# amounts, choices, views: J-HMDB at r = 16 to 96, with what the paper ablates, and on 1 to 4 clips of
# a video. Runs and plots go to runs/curves/, records to benchmarks/results/curves/.
set -euo pipefail
cd "$(dirname "$0")/.."

part="${1:?a part: generated, generated-low, choices-generated, jhmdb, jhmdb-low, amounts, choices, views, actors, actors-generated, beyond, beyond-6-blocks, beyond-30, beyond-jhmdb or beyond-choices}"
jhmdb="${JHMDB:-../shared/jhmdb}"
folded=(sta:fold=true random:fold=true)
methods=(sta "${folded[@]}" tome tome:mode=drop grid run-length vid-tldr)
# Other draws of random pruning, to see how much of a difference is one draw's luck.
draws=(random:seed=1 random:seed=2)
# From the usual stages no selection comes below a quarter of the dense cost.
early="blocks=0/1/2"
low=("sta:$early" "random:$early" "sta:$early,fold=true" "random:$early,fold=true" tome run-length)
low+=(tome:mode=drop "grid:$early" vid-tldr)
# Ward's merging and what it has to beat, at early stages too and with attention by size.
beyond=(ward ward:where=before ward:proportional_attention=false sta "sta:$early" random:fold=true
    "random:$early,fold=true" "random:$early,fold=true,proportional_attention=true" "random:$early"
    tome tome:proportional_attention=true vid-tldr run-length "grid:$early,fold=true")
beside=(--no-alternatives --at 0.75 0.5 0.35 0.25 0.15 --against ward --reducer "${beyond[@]}")
down_to_30=(--at 0.9 0.75 0.6 0.5 0.4 0.3)
choices=(sta sta:score={temporal,semantic} sta:order={BFB,FFF,BBB} sta:first_group={random,grid}
    sta:similarity={query,value,output} sta:schedule={constant,increasing} sta:stages={1,2,4}
    sta:blocks={0/2/4,2/5/9})
# Clips are called CLASS/FILM_CLASS_TAGS: several come from one film, on all three lists.
films='([^/]+)/(?P<source>.+)_\1_[a-z]+_[^/]*$'
models=(--model benchmarks/models/jhmdb/split{1,2,3} --data "$jhmdb"/split{1,2,3} --protocol ssv2
    --dtype bf16 --batch-size 16 --source "$films")
# Two clips of each video and no crops at the sides, which would be three times the work.
splits=("${models[@]}" --crops 1)
clips=runs/curves/clips-generated-1440
generated=(--model demo --data "$clips" --batch-size 16)

# curves RECORD OPTION...
curves() {
    python3 -m vidprune curves "${@:2}" --output "runs/curves/$1" "${more[@]}"
    mkdir -p "benchmarks/results/curves/$1"
    cp "runs/curves/$1/curves.json" "benchmarks/results/curves/$1"
}

seed=800000000
if [[ "$part" =~ generated|^beyond(-6-blocks|-30)?$ && ! -e "$clips/test.csv" ]]; then
    python3 -c "from vidprune.demo.clips import write_clips; write_clips('$clips', per_class=120, seed=$seed)"
fi
tried=runs/curves/clips-tried-480
if [[ "$part" == beyond-choices && ! -e "$tried/test.csv" ]]; then
    python3 -c "from vidprune.demo.clips import write_clips; write_clips('$tried', per_class=40, seed=910000000)"
fi
more=("${@:2}")
case "$part" in
generated)
    curves generated "${generated[@]}" --smaller benchmarks/models/demo_6_blocks "${down_to_30[@]}" \
        --against sta --reducer "${methods[@]}" "${draws[@]}" ;;
beyond | beyond-6-blocks)
    model=demo
    if [[ "$part" == beyond-6-blocks ]]; then model=benchmarks/models/demo_6_blocks; fi
    curves "$part" --model "$model" --data "$clips" --batch-size 16 "${beside[@]}" ;;
beyond-30)
    # Where a target lies that the other costs stand around.
    for model in demo benchmarks/models/demo_6_blocks; do
        record="beyond-30$([[ "$model" == demo ]] || echo -6-blocks)"
        curves "$record" --model "$model" --data "$clips" --batch-size 16 --no-alternatives \
            --at 0.3 --against ward --reducer ward sta "sta:$early" random:fold=true tome
    done ;;
beyond-jhmdb)
    curves beyond-jhmdb "${splits[@]}" "${beside[@]}" ;;
beyond-choices)
    curves beyond-choices --model demo --data "$tried" --batch-size 16 --no-alternatives \
        --at 0.75 0.5 0.35 0.25 0.15 --against ward --reducer ward ward:rounds={1,2,6} \
        ward:where={after,before} ward:blocks={0/,0/1,0/1/2/3,0/2/4,0/4/8} ward:proportional_attention=false \
        sta random:fold=true tome ;;
generated-low)
    curves generated-low "${generated[@]}" --at 0.2 0.15 --against "sta:$early" \
        --reducer "${low[@]}" ;;
jhmdb)
    for split in 1 2 3; do
        if [[ ! -e "runs/jhmdb/split$split/cheap/model" ]]; then
            echo "curves.sh: the models at 64 pixels are not there; benchmarks/jhmdb.sh cheap makes them" >&2
            exit 2
        fi
    done
    curves jhmdb "${splits[@]}" --smaller runs/jhmdb/split{1,2,3}/cheap/model \
        "${down_to_30[@]}" --against sta --reducer "${methods[@]}" ;;
jhmdb-low)
    curves jhmdb-low "${splits[@]}" --at 0.2 0.15 --against "sta:$early" --reducer "${low[@]}" ;;
amounts)
    # The costs of r = 16, 32, 48, 64, 80, 96.
    curves amounts "${splits[@]}" --no-alternatives --at 0.8464 0.6972 0.5645 0.4485 0.3491 0.2663 \
        --reducer sta ;;
choices)
    # The cost of r = 64.
    curves choices "${splits[@]}" --no-alternatives --at 0.4485 --against sta --reducer "${choices[@]}" ;;
choices-generated)
    # Half, which an increasing schedule reaches as well.
    curves choices-generated "${generated[@]}" --no-alternatives --at 0.5 0.3 --against sta \
        --reducer "${choices[@]}" ;;
actors)
    for record in jhmdb jhmdb-low; do
        python3 benchmarks/actors.py "benchmarks/results/curves/$record" --every 8 --source "$films"
    done ;;
actors-generated)
    for record in generated generated-low; do
        python3 benchmarks/actors.py "benchmarks/results/curves/$record" --generated "$seed" --every 8
    done ;;
views)
    # The cost of r = 64.
    for segments in 1 2 4; do
        curves "views-$segments" "${models[@]}" --crops 1 --segments "$segments" --no-alternatives \
            --at 0.4485 --reducer sta
    done ;;
*)
    echo "curves.sh: no part is called $part; choose generated, generated-low," \
        "choices-generated, jhmdb, jhmdb-low, amounts, choices, views, actors, actors-generated," \
        "beyond, beyond-6-blocks, beyond-30, beyond-jhmdb or beyond-choices" >&2
    exit 2 ;;
esac
