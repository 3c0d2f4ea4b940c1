# The front door. `make curate` and `make test` do everything on a fresh machine, set-up included.
.DEFAULT_GOAL := help
include requirements/setup.mk
RECIPE   ?= curation/recipe/sample.yaml
# a cluster wants a path that means the same everywhere: give RUN=s3://... unless it is this machine; Compose has a bucket
THERE    := $(if $(filter compose,$(CLUSTER)),s3://facemakeup/,$(if $(CLUSTER),$(CURDIR)/))
RUN      ?= $(THERE)runs/$(basename $(notdir $(RECIPE)))
# whether a variable is the caller's, not the default of this file
given = $(filter-out file,$(origin $(1)))

ifdef DOWN
$(if $(CLUSTER),,$(error DOWN=1 ends the machines of a CLUSTER=..., and none is named))
endif

# word splitting by the shell must not touch "a b=c"
QUOTED_SET := $(foreach item,$(SET),--set '$(item)')
OPTIONS := $(if $(NAME),--name '$(NAME)') $(QUOTED_SET)

export PATH := $(CURDIR)/$(BIN):$(PATH)
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help setup sample curate recut report calibrate label train evaluate demo test nodes lint bench rehearse weights tiny-base drill chaos plan plan-train cache

help:  ## this list
	@echo "make curate                                   the sample: real photos, real models, a local Ray; minutes"
	@echo "make curate RECIPE=my.yaml RUN=s3://b/run      your recipe, here"
	@echo "make curate RECIPE=... RUN=... CLUSTER=http://head:8265   as a Ray job; or CLUSTER=docker/cluster.yaml, compose, kuberay (docs/cluster.md)"
	@echo "make curate AGAIN=1 NAME=healed RUN=...        first try again what failed to fetch and may have healed"
	@echo "make recut NAME=strict SET=\"text.max_area=0.03\" [RUN=...]  another cut of a run: only missing scores are made"
	@echo "make plan RECIPE=my.yaml [RUN=...] [PILOT=300] [PRICE=my-prices.yaml] [CORES=32 NODES=4 GPUS=0] [SEED=1] [JSON=1]   what a run takes, by a pilot of a minute"
	@echo "make report [RUN=...] [NAME=...] [BESIDE=...]  terminal summary and RUN/report.html, also while it runs; two cuts compared"
	@echo "make calibrate [PHOTOS=folder/ LABELS=my.csv]  thresholds from labelled photos, with their precision and recall"
	@echo "make label PHOTOS=folder/ [LABELS=anna.csv] [BESIDE=ben.csv] [ASK=keep]   a page to label photos with, in the browser"
	@echo "make calibrate REFERENCE=1 RUN=...             thresholds fitted to the published FaceCaptionHQ-4M table"
	@echo "make weights                                  which model files are used, where they were found, licences"
	@echo "make train [RECIPE=default] [OUT=s3://b/out] [RANKS=8] [SET=\"engine.zero=3\"] [CLUSTER=...]   train on shards; alone: tiny, the sample's"
	@echo "make cache [RECIPE=default] [WHAT=vae,clip] [DTYPE=fp32] [CLUSTER=...]   what the frozen encoders compute, once, beside the shards"
	@echo "make plan-train [RECIPE=default] [GPU=a100] [GPUS=8] [PRICE=2] [MEASURED=runs/train/my]   what to expect, what to cache; arithmetic"
	@echo "make evaluate [METHODS=\"face-makeup references\"] [MODEL=exported/] [SHARDS=shards/] [COUNT=16] [OUT=...] [TRAINED_ON=run] [VOTES=votes.json] [CLIP=folder] [DINO=folder]   draw, and score beside copies"
	@echo "make evaluate RECIPE=mine.yaml OUT=s3://b/mine [PRICE=2] CLUSTER=...   the same on a cluster: each method a group of actors (docs/evaluation.md)"
	@echo "make demo [MODEL=exported/] [CHECKPOINT=model.bin] [LISTEN=ADDRESS] [PORT=N]   a page to draw with, in the browser"
	@echo "make tiny-base                                a small VAE and UNet, trained here in minutes, to try training on"
	@echo "make drill [RUNS=20] [SEED=0]                 kill training at random moments: does it end with the same bits?"
	@echo "make chaos [KILLS=20] [SEED=0] [ON=disk,s3]   kill curation (driver, workers, raylets) on a disk and a faulty S3: the same shards?"
	@echo "make nodes                                    a cluster of three nodes on this machine, one after the other killed"
	@echo "make rehearse ROWS=10_000_000 [KEEP=1]        a made run of that size through every step that reads no pixel: times, memory"
	@echo "make test | lint | bench [ONLY=training]      everything tested; style; speed as ratios"
	@echo "make setup                                    only the environment ($(VENV))"
	@echo "Each step alone: $(BIN)/python -m curation STEP --help  (select fetch score cut annotate pack report ...)"

sample: $(READY)  ## the sample's photos and metadata, into the cache
	@$(BIN)/python -m curation.sample

ifeq ($(RECIPE),curation/recipe/sample.yaml)
curate: sample
endif
curate: $(READY)
	@$(BIN)/python jobs/curate.py --recipe '$(RECIPE)' --run '$(RUN)' $(OPTIONS) $(if $(CLUSTER),--cluster '$(CLUSTER)') \
	  $(if $(AGAIN),--again)

ifeq ($(RECIPE),curation/recipe/sample.yaml)
plan: sample
endif
plan: $(READY)
	@$(BIN)/python -m curation plan $(if $(call given,RUN),'$(RUN)') --recipe '$(RECIPE)' $(QUOTED_SET) \
	  $(foreach name,PILOT SEED CORES NODES GPUS PRICE,$(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) '$($(name))')) \
	  $(if $(JSON),--json)

recut: $(READY)
	@test -n "$(NAME)" || { echo "a new cut needs a name: make recut NAME=strict SET=\"text.max_area=0.03\""; exit 2; }
	@$(BIN)/python jobs/curate.py --recut --run '$(RUN)' --name '$(NAME)' \
	  $(foreach item,$(SET),--set 'thresholds.$(item:thresholds.%=%)') $(if $(CLUSTER),--cluster '$(CLUSTER)')

report: $(READY)
	@$(BIN)/python curation/report.py '$(RUN)' $(if $(NAME),--name '$(NAME)') $(if $(BESIDE),--beside '$(BESIDE)')

calibrate: $(READY)
	@$(BIN)/python -m curation calibrate $(if $(REFERENCE)$(call given,RUN),'$(RUN)') $(if $(REFERENCE),--reference) \
	  $(if $(PHOTOS),--photos '$(PHOTOS)') $(if $(LABELS),--labels '$(LABELS)') \
	  $(if $(call given,RECIPE),--recipe '$(RECIPE)') $(OPTIONS)

label: $(READY)
	@$(BIN)/python -m curation label $(if $(call given,RUN),'$(RUN)') $(foreach name,PHOTOS LABELS BESIDE ASK COUNT PORT,\
	  $(if $($(name)),--$(shell echo $(name) | tr A-Z a-z) '$($(name))')) $(if $(call given,RECIPE),--recipe '$(RECIPE)') $(OPTIONS)

tiny-base: sample  ## what tiny.yaml stands on, into the cache
	@$(BIN)/python jobs/tiny_base.py $(if $(SEED),--seed $(SEED))

weights: $(READY)
	@$(BIN)/python -m common.pinned_files.weights

# RECIPE's own default is the curation's
TRAINED := $(if $(call given,RECIPE),$(RECIPE),tiny)
OUT     ?= $(THERE)runs/train/$(basename $(notdir $(TRAINED)))

train: $(READY)
	@$(BIN)/python jobs/train.py --recipe '$(TRAINED)' --out '$(OUT)' $(QUOTED_SET) \
	  $(if $(RANKS),--ranks '$(RANKS)') $(if $(CLUSTER),--cluster '$(CLUSTER)')

cache: $(READY)
	@$(BIN)/python jobs/cache.py --recipe '$(TRAINED)' $(QUOTED_SET) $(if $(WHAT),--what '$(WHAT)') \
	  $(if $(DTYPE),--dtype '$(DTYPE)') $(if $(CLUSTER),--cluster '$(CLUSTER)')

plan-train: $(READY)
	@$(BIN)/python jobs/plan.py --recipe '$(if $(call given,RECIPE),$(RECIPE),default)' $(QUOTED_SET) \
	  $(foreach name,GPU GPUS MFU PEAK_TFLOPS PRICE STORAGE_GBS STORAGE_PRICE MONTHS SAMPLES SAMPLE_BYTES DECODE_RATE \
	  CORES NETWORK_GBITS CACHE_DTYPE MEASURED CACHED,$(if $($(name)),\
	  --$(shell echo $(name) | tr A-Z_ a-z-) '$($(name))')) $(if $(JSON),--json)

evaluate: $(READY)
	@$(BIN)/python jobs/evaluate.py $(if $(call given,RECIPE),--recipe '$(RECIPE)') $(if $(call given,OUT),--out '$(OUT)') \
	  $(foreach name,SHARDS MODEL COUNT IMAGES STEPS PROMPTS TRAINED_ON VOTES ACTORS PRICE CLUSTER,$(if $($(name)),\
	  --$(shell echo $(name) | tr A-Z_ a-z-) '$($(name))')) \
	  $(if $(METHODS),--methods $(METHODS)) $(if $(WEIGHTS),--weights '$(WEIGHTS)') $(if $(TWINS),--twins) \
	  $(if $(CLIP),--model-of 'clip=$(CLIP)') $(if $(DINO),--model-of 'dino=$(DINO)')

demo: $(READY_DEMO)
	@$(BIN)/python jobs/demo.py $(if $(MODEL),--model '$(MODEL)') $(if $(CHECKPOINT),--checkpoint '$(CHECKPOINT)') \
	  $(if $(BASE),--base '$(BASE)') $(if $(LISTEN),--listen '$(LISTEN)') $(if $(PORT),--port '$(PORT)')

# lanes side by side; JOBS=0 for one process, e.g. to debug
JOBS ?= 2
# hundreds of processes import this project: where caches are forbidden each would compile it again
test nodes: export PYTHONDONTWRITEBYTECODE :=

test: sample $(READY_DEMO)
	@$(BIN)/python -m pytest -n $(JOBS) --no-loadscope-reorder $(TESTS)

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo

nodes: sample $(READY_DEMO)
	@$(BIN)/python -m pytest -n 0 -m nodes tests/cluster

drill: $(READY)
	@$(BIN)/python -m tests.drill $(if $(RUNS),--runs $(RUNS)) $(if $(SEED),--seed $(SEED))

chaos: $(READY)
	@$(BIN)/python -m tests.chaos $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(if $(ON),--on $(ON))

rehearse: $(READY)
	@$(BIN)/python -m tests.rehearsal $(or $(ROWS),1_000_000) $(if $(KEEP),--keep)

bench: $(READY)
	@$(BIN)/python -m tests.bench $(ONLY)
