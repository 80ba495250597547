#!/bin/bash
# Runs every cell of the comparison of docs/engine.md, one after another, each in a
# process of its own, and adds one JSON object a line to OUT. Cells that OUT has are
# skipped, so that a sitting can be interrupted and goes on; remove OUT for a new one.
# Wants a quiet machine, and some hours.
#
#   SCUMBLE=./scumble TORCH=venv/bin/python JAX=venv-jax/bin/python bench/peers/figures.sh OUT
#
# TORCH needs torch and diffusers, JAX needs jax and jax-privacy (README.md says which);
# what is not set is left out. ONLY, a pattern, takes the cells whose name matches.
set -u
out=${1:?the file that results are added to}
here=$(cd "$(dirname "$0")" && pwd)
rounds=${ROUNDS:-3}
touch "$out"

# cell NAME COMMAND...: the last line that the command prints becomes its result.
cell() {
	local name=$1 result status
	shift
	if [[ -n ${ONLY:-} && ! $name =~ $ONLY ]] || grep -qF "\"cell\": \"$name\"" "$out"; then return; fi
	echo "$(date +%T) $name" >&2
	result=$(PYTHONDONTWRITEBYTECODE=1 timeout "${LIMIT:-3600}" "$@" 2>"$out.log" | tr '\n' ' ')
	status=${PIPESTATUS[0]}
	case $result in
	*{*}*) printf '{"cell": "%s", "result": %s}\n' "$name" "{${result#*\{}" >>"$out" ;;
	*) # A cell that fails is a result, too: the peer cannot do it, or not in this memory.
		printf '{"cell": "%s", "failed": %s, "why": "%s"}\n' "$name" "$status" \
			"$(tail -n 1 "$out.log" | tr -d '\000-\037"\\' | cut -c1-200)" >>"$out" ;;
	esac
}

ours() { # WORKLOAD SET BATCH K: private and ordinary steps alternate in one process.
	[[ -n ${SCUMBLE:-} ]] || return 0
	for backend in xla go; do
		local flags=(--workload "$1" --trainable "$2" --batch "$3" --multiplicity "$4" --rounds "$rounds" --backend "$backend" --quiet --json)
		cell "$1 $2 K=$4: scumble $backend auto" "$SCUMBLE" bench step "${flags[@]}"
		for engine in book-keeping loop; do # For each engine's own time and memory.
			cell "$1 $2 K=$4: scumble $backend $engine" "$SCUMBLE" bench step "${flags[@]}" --engine "$engine" --private-only
		done
	done
}

peers() { # WORKLOAD SET BATCH K PHYSICAL
	local flags=(--workload "$1" --trainable "$2" --batch "$3" --multiplicity "$4" --physical-batch "$5" --rounds "$rounds")
	[[ -n ${TORCH:-} ]] && cell "$1 $2 K=$4: torch" "$TORCH" "$here/step.py" "${flags[@]}"
	[[ -n ${JAX:-} ]] || return 0
	cell "$1 $2 K=$4: jax vmap" "$JAX" "$here/jax_step.py" "${flags[@]}"
	[[ $2 == none ]] || cell "$1 $2 K=$4: jax-privacy" "$JAX" "$here/jax_step.py" "${flags[@]}" --method jax-privacy
}

for k in 1 4; do
	for set in full attention; do
		ours pixel "$set" 64 "$k"
		case $set$k in # The examples a call that were fastest for PyTorch (docs/engine.md).
		full1) sizes=(8 16) ;;
		full4) sizes=(8 8) ;;
		attention1) sizes=(16 32) ;;
		attention4) sizes=(8 16) ;;
		esac
		peers pixel "$set" 64 "$k" "${sizes[0]}"
		ours latent "$set" 256 "$k"
		peers latent "$set" 256 "$k" "${sizes[1]}"
	done
	for set in lora loda; do # JAX's script has no adapters.
		ours pixel "$set" 64 "$k"
		JAX= peers pixel "$set" 64 "$k" 16
		ours latent "$set" 256 "$k"
		JAX= peers latent "$set" 256 "$k" $((k == 1 ? 64 : 16))
	done
	peers pixel none 64 "$k" 16
	peers latent none 256 "$k" $((k == 1 ? 64 : 16))
done

# Memory: it grows with the physical batch, not with the batch.
if [[ -n ${SCUMBLE:-} ]]; then
	for n in 16 64 256 1024; do
		cell "memory latent attention $n" "$SCUMBLE" bench step --workload latent --trainable attention --batch "$n" --physical-batch 16 \
			--rounds 1 --private-only --engine book-keeping --backend xla --quiet --json
	done
	for n in 16 64 256; do
		cell "memory pixel full $n" "$SCUMBLE" bench step --workload pixel --trainable full --batch "$n" --physical-batch 8 \
			--rounds 1 --private-only --engine book-keeping --backend xla --quiet --json
	done
fi
