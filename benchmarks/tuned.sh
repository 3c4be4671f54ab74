#!/usr/bin/env bash
# `vidprune tune` on real clips, sixty of J-HMDB's first test list, in ../shared/jhmdb or $JHMDB, by the
# model that learned from the others, films whole on either side; and on 120 generated clips by the
# demo's model. A budget by content may be found on both. Records go to benchmarks/results/tuned/, runs
# to runs/tuned/.
#
#     benchmarks/tuned.sh [OPTION of vidprune tune ...]
set -euo pipefail
cd "$(dirname "$0")/.."

jhmdb="${JHMDB:-../shared/jhmdb}"
clips=runs/tuned/sixty.csv
mkdir -p runs/tuned benchmarks/results/tuned
# Every fourth: the list is sorted by class. Paths start at the list.
awk -v from="$(realpath --relative-to runs/tuned "$jhmdb/split1")" \
    'NR % 4 == 1 && n++ < 60 { print from "/" $0 }' "$jhmdb/split1/test.csv" > "$clips"

# tune RECORD OPTION...
tune() {
    python3 -m vidprune tune --workers 0 --trials 30 --by-content confidence \
        --output "runs/tuned/$1" "${@:2}" || test -e "runs/tuned/$1/tune.json"
    cp "runs/tuned/$1/tune.json" benchmarks/results/tuned/"$1.json"
}

real=(--data "$clips" --model benchmarks/models/jhmdb/split1 --protocol ssv2 --segments 1 --crops 1
    --source '([^/]+)/(?P<source>.+)_\1_[a-z]+_[^/]*$')
tune agreement "${real[@]}" --agreement 80 "$@"
tune half "${real[@]}" --gmacs 5.67 "$@"
generated=runs/tuned/generated
if [[ ! -e "$generated/test.csv" ]]; then
    python3 -c "from vidprune.demo.clips import write_clips; write_clips('$generated', per_class=10, seed=910000000)"
fi
tune content --data "$generated" --model demo --agreement 97 "$@"
