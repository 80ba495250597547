// Package export hands on what a release holds: its model in the formats of other
// libraries, and its synthetic images as a data set that other people's tools
// open: Parquet for Hugging Face datasets, a folder of class folders, WebDataset
// shards, a data card and Croissant metadata, with the statement of the guarantee
// and what it takes to verify it.
//
//	OUT/
//	    README.md                             data card, with dataset_info for load_dataset(OUT)
//	    croissant.json                        Croissant 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec.html)
//	    data/train-00000-of-00001.parquet     columns image (bytes, path) and label, or text
//	    imagefolder/train/CLASS/000001.png    or 000001.png and metadata.jsonl
//	    webdataset/train-000000.tar           000000.png, 000000.cls, or 000000.txt, …
//	    statement.json, statement.md, ledger.jsonl, config.yaml, previous/, manifest.json
//
// This package never sees private data: its input is a release that verifies.
// Images of a model that takes text have the public prompts that they were drawn
// from where others have classes. Pixels, labels and prompts are all it takes from the pictures; every name, order and time
// in its output is made here.
package export
