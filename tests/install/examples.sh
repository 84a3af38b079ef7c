# For test scripts: runs the programs that examples/ was built into. The caller has sourced tests/check.sh, and set root.

# run_examples FOLDER PROGRAM: each program of examples/ in FOLDER, in an empty folder; draw draws with a model that PROGRAM,
# the llsa command, has trained a little
run_examples() {
  local example place arguments
  place=$(mktemp -d)
  tiny_model() {
    "$1" data shapes --out "$place/shapes" --count 8 --size 8 &&
      "$1" train --data "$place/shapes" --out "$place/run" --size 8 --dim 16 --depth 1 --steps 2 --sample-every 0 --device cpu
  }
  check "a model to draw with" tiny_model "$2"
  for example in "$root"/examples/*.cpp; do
    example=$(basename "$example" .cpp)
    arguments=()
    [[ $example != draw ]] || arguments=("$place/run" "$place/grid.png")
    check "$example runs" env -C "$place" TMPDIR="$place" timeout 300 "$1/$example" "${arguments[@]}"
  done
  is_png() { [[ $(head -c 4 "$1" | tail -c 3) == PNG ]]; }
  check "draw leaves a PNG" is_png "$place/grid.png"
  check "pyramid leaves a PNG" is_png "$place/pyramid.png"
  rm -rf "$place"
}
