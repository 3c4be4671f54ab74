#!/usr/bin/env bash
# `vidprune tune` on real clips: sixty of J-HMDB's first test list, in ../shared/jhmdb or $JHMDB, by the
# model that learned from the others; films are kept whole on either side. Records go to
# benchmarks/results/tuned/, runs to runs/tuned/.
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

tune() {
    python3 -m vidprune tune --data "$clips" --model benchmarks/models/jhmdb/split1 --protocol ssv2 \
        --segments 1 --crops 1 --source '([^/]+)/(?P<source>.+)_\1_[a-z]+_[^/]*$' --workers 0 \
        --output "runs/tuned/$1" "${@:2}" || test -e "runs/tuned/$1/tune.json"
    cp "runs/tuned/$1/tune.json" benchmarks/results/tuned/"$1.json"
}

tune agreement --agreement 80 "$@"
tune half --gmacs 5.67 "$@"
