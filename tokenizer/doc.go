// Package tokenizer turns text into the token numbers of the text encoders that
// diffusion models use: CLIP's byte pair encoding (Sennrich et al. 2016,
// https://arxiv.org/abs/1508.07909) and BERT's WordPiece (Devlin et al. 2019,
// https://arxiv.org/abs/1810.04805), both as transformers 5 has them.
//
// [Open] reads the folder of a tokenizer in either form: vocab.json and
// merges.txt, or vocab.txt, as older repositories have them; or tokenizer.json.
// This package sees private data: finetune hands it private captions.
//
// Every setting is honoured or refused by name. [Build] makes a small one.
//
// Any text has tokens: nothing about a text is an error, so that no error can
// hold one. Time grows as n·log n in the length of a text.
package tokenizer
