# scumble: everything runs with Go alone; targets that need more say so.
export GOEXPERIMENT := simd
GO ?= go
DEMO_OUT ?= runs/demo
DEMO_FLAGS ?=
FUZZ_COUNT ?= 1000000

.PHONY: build demo test slow fuzz lint xla models clean

build: ## The command, ./scumble.
	$(GO) build -o scumble ./cmd/scumble

demo: build ## The main job, whole, on bundled data: minutes on two cores.
	./scumble demo --out $(DEMO_OUT) --force $(DEMO_FLAGS)

test: ## All tests.
	$(GO) vet ./...
	$(GO) test -timeout 30m ./...

slow: ## Also the slow statistical and training tests.
	SCUMBLE_SLOW=1 $(GO) test -timeout 90m ./...

fuzz: ## Every parser under Go's fuzzing engine: FUZZ_COUNT inputs each (a million), ten times as many for the accountant's; hours. Memory and time of each input are bounded (internal/parsebound).
	$(GO) test -run '^$$' -fuzz FuzzParseLedger -fuzztime $(FUZZ_COUNT)0x ./accountant
	$(GO) test -run '^$$' -fuzz FuzzReadCases -fuzztime $(FUZZ_COUNT)0x ./accountant
	grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | grep -v '^./accountant$$' | while read -r dir; do \
	  grep -ho --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' "$$dir"/*_test.go | cut -c6- | while read -r target; do \
	    GOMEMLIMIT=2GiB $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_COUNT)x -fuzzminimizetime 50x "$$dir" </dev/null || exit 1; \
	  done || exit 1; \
	done

lint: ## Formatting, and vet with and without cgo.
	@files=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$files" ]; then echo "gofmt: $$files"; exit 1; fi
	$(GO) vet ./...
	CGO_ENABLED=0 $(GO) vet ./...

xla: build ## Fetch the XLA CPU plugin and the allocator mimalloc with pip and install them for this user.
	mkdir -p .xla
	python3 -m pip download --quiet --no-deps -d .xla lammps-jax-pjrt-cpu==0.11.2
	./scumble backend install .xla/lammps_jax_pjrt_cpu-0.11.2-py3-none-manylinux_2_27_x86_64.whl
	python3 -m pip download --quiet --no-deps -d .xla cmeel-mimalloc==3.4.3
	./scumble backend install .xla/cmeel_mimalloc-3.4.3-0-py3-none-manylinux_2_28_x86_64.whl

models: build ## Remake the bundled base models (hours on two cores; XLA advised).
	rm -rf .models && mkdir .models
	./scumble pretrain recipes/glyphs-latent.yaml --card recipes/glyphs-latent.md --out .models/latent
	./scumble pretrain recipes/glyphs-pixel.yaml --card recipes/glyphs-pixel.md --out .models/pixel
	./scumble pretrain recipes/glyphs-colour.yaml --card recipes/glyphs-colour.md --out .models/colour
	./scumble pretrain recipes/glyphs-text.yaml --autoencoder-from latent --card recipes/glyphs-text.md --out .models/text
	./scumble pretrain recipes/shapes-latent.yaml --card recipes/shapes-latent.md --out .models/shapes
	./scumble pretrain recipes/shapes-pixel.yaml --card recipes/shapes-pixel.md --out .models/shapes-pixel

clean:
	rm -rf scumble runs .xla .models
