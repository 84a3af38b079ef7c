# For test scripts: runs the programs that examples/ was built into. The caller has sourced tests/check.sh, and set root.

# make_checkpoint PROGRAM FOLDER: a tiny run, trained by the program llsa, for the example that draws with a trained model
make_checkpoint() {
  [[ -d $2/run ]] && return
  mkdir -p "$2" && "$1" data shapes --out "$2/shapes" --count 8 --size 8 &&
    "$1" train --data "$2/shapes" --out "$2/run" --size 8 --depth 1 --steps 1 --batch 2 --sample-every 0
}

# run_examples FOLDER CHECKPOINT: each program of examples/ in FOLDER, in an empty folder
run_examples() {
  local example place arguments
  place=$(mktemp -d)
  for example in "$root"/examples/*.cpp; do
    example=$(basename "$example" .cpp)
    arguments=()
    [[ $example != draw ]] || arguments=("$2" drawn.png)
    check "$example runs" env -C "$place" TMPDIR="$place" timeout 300 "$1/$example" "${arguments[@]}"
  done
  check "draw has drawn" test -s "$place/drawn.png"
  rm -rf "$place"
}
