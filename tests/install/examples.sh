# For test scripts: runs the programs that examples/ was built into. The caller has sourced tests/check.sh, and set root.

# run_examples FOLDER PROGRAM: each program of examples/ in FOLDER, in an empty folder; draw and inspect take a model that PROGRAM,
# the llsa command, has trained a little
run_examples() {
  local example place arguments inspect image
  place=$(mktemp -d)
  tiny_model() {
    "$1" data shapes --out "$place/shapes" --count 8 --size 8 &&
      "$1" train --data "$place/shapes" --out "$place/run" --size 8 --dim 16 --depth 1 --attention llsa --block 4 --steps 2 --sample-every 0 --device cpu
  }
  check "a model to draw with" tiny_model "$2"
  image=$(find "$place/shapes" -name '*.png' | head -1)
  for example in "$root"/examples/*.cpp; do
    example=$(basename "$example" .cpp)
    arguments=()
    [[ $example != draw ]] || arguments=("$place/run" "$place/grid.png")
    [[ $example != inspect ]] || arguments=("$place/run" "$image" 0 0 3,5 0.5 "$place/picks.png")
    check "$example runs" env -C "$place" TMPDIR="$place" timeout 300 "$1/$example" "${arguments[@]}"
  done
  is_png() { [[ $(head -c 4 "$1" | tail -c 3) == PNG ]]; }
  check "draw leaves a PNG" is_png "$place/grid.png"
  check "inspect leaves a PNG" is_png "$place/picks.png"
  check "pyramid leaves a PNG" is_png "$place/pyramid.png"
  refuses() { ! "${@:2}" 2>"$place/said" && grep -q "$1" "$place/said"; }
  inspect=("$1/inspect" "$place/run" "$image")
  check "inspect refuses a layer that is not there" refuses "a layer below 1" "${inspect[@]}" 1 0 3,5 0.5 "$place/no.png"
  check "inspect refuses a place that is no pixel" refuses "got ''" "${inspect[@]}" 0 0 3 0.5 "$place/no.png"
  rm -rf "$place"
}
