"""Writes small tokenizers in every form of their files, and what transformers makes of awkward strings.

    python record.py        (transformers 5.23.0, tokenizers 0.23.1)

The vocabularies are made here: the bytes, a few words, and merges that build them.
"""
import json
import os
import shutil

from transformers import BertTokenizer, CLIPTokenizer

here = os.path.dirname(os.path.abspath(__file__))


def byte_letters():
    """The printable letter of each byte, as GPT-2 has them."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters, n = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + n)
            n += 1
    return letters


letters = byte_letters()
alphabet = [letters[b] for b in sorted(letters)]
words = ("a the seven seventh even event thin bold tilted left right digit digits of photo photos in low lower newest widest "
         "eve ever é café naïve straße 日本 日 本 東京 привет न ’ … 's n't ing ed 20 0 1 2 3 !! ... 👍 🏽 👨 ️").split()
tokens = alphabet + [a + "</w>" for a in alphabet]
merges, seen = [], set(tokens)
for word in words:
    parts = [letters[b] for b in word.encode()]
    parts[-1] += "</w>"
    while len(parts) > 1:
        pair = (parts[0], parts[1])
        if pair not in merges:
            merges.append(pair)
        parts = [pair[0] + pair[1]] + parts[2:]
        if parts[0] not in seen:
            seen.add(parts[0])
            tokens.append(parts[0])
for pair in [("e", "n"), ("en", "t</w>"), ("i", "n"), ("in", "g</w>"), ("t", "h"), ("h", "e</w>"), ("a", "n"), ("an", "d</w>"), ("l", "l"), ("e", "r</w>")]:
    if pair not in merges:
        merges.append(pair)
        if pair[0] + pair[1] not in seen:
            seen.add(pair[0] + pair[1])
            tokens.append(pair[0] + pair[1])
tokens += ["<|startoftext|>", "<|endoftext|>"]
clip_vocab = {t: i for i, t in enumerate(tokens)}

bert_words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [chr(c) for c in range(33, 127)]
bert_words += ["##" + chr(c) for c in range(97, 123)] + ["##" + str(i) for i in range(10)]
bert_words += "the seven even ##ven bold tilt ##ed left digit ##s cafe naive 日 本 東 京 привет пр ##ивет straße strasse é ##é café Seven Bold ё е न ’ … ― « » ¿ ¡ € 👍 ##👍 ½ ² ª".split()
bert_vocab = {}
for w in bert_words:
    bert_vocab.setdefault(w, len(bert_vocab))

strings = [
    "", " ", "   \t\n ", "a bold seven, tilted left", "A BOLD SEVEN, TILTED LEFT!", "the seventh event's evening", "don't can't I'll we've they're he'd I'm o's",
    "photo of 20 digits 2013 1/2 ½ ² ª Ⅷ ٣ 3.14", "café naïve straße STRASSE Ärger", "cafe\u0301 nai\u0308ve e\u0301\u0302\u0323 \u0301", "İstanbul DİYARBAKIR ı I ſ K Å",
    "ΣΊΣΥΦΟΣ Σ ΑΣ", "привет ПРИВЕТ ё Ё й и\u0306", "日本 東京 日本語 漢字かな交じり文 한국어 各", "한\u1100\u1161", "नमस्ते हिन्दी", "مرحبا بالعالم", "שָׁלוֹם", "ภาษาไทย",
    "👍 👍🏽 👨‍👩‍👧‍👦 🇺🇳 ❤️ ☃ 🤖seven🤖", "a\u200bb \ufeffc \u00adsoft \u2060", "a\x00b\x01c\x07 \x1b[0m \x7f \x80 \x85x \x9f", "tab\tnew\nline\r\nreturn\x0bvt\x0cff",
    "\xa0nbsp\u2003em\u3000ideographic\u2028line\u2029para\u1680ogham\u180emvs", "\ufffd replacement \ufffe", "private \ue000\uf8ff unassigned \u0378 \U000e0001 tag",
    "...!!! ?!?! --- ’quote’ … «x» ¿qué? ¡no! €5 $5 a_b a-b a+b=c ^~`|<>", "<|startoftext|> hi <|endoftext|>", "<|ENDOFTEXT|>!! x<|endoftext|>!!", "x <|startoftext|>", "[CLS] a [SEP] [MASK] [PAD] [UNK] [cls]",
    "'s 't ' '' '''s !'s", "sevenseven seven7seven 7seven7", "x" * 99, "x" * 100, "x" * 101, "é" * 60, "the " * 40, "seven" * 30, "👍" * 40, "日" * 120, "a" + "\u0301" * 30, "\u1e9b\u0323 ﬁ ﬃ ｆｕｌｌ", "\u0000",
    "mixed日本text京with漢字", "(the)[seven]{even}/left\\right", "\u0130\u0307", "ǅ ǈ Ǆ", "\ud7ff\ue000\uffff"[0:3], "𝔰𝔢𝔳𝔢𝔫 𐐀𐐁", "٠١٢ १२३ ①②", "a\u030a\u0323", "\u2126 \u212b",
]

record = {}


def check(name, tokenizer, length):
    record[name] = {
        "length": length,
        "strings": [{"text": s, "ids": tokenizer(s)["input_ids"],
                     "padded": tokenizer(s, padding="max_length", max_length=length, truncation=True)["input_ids"]} for s in strings],
    }


def fresh(name):
    path = os.path.join(here, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def write(path, text):
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.write(text)


# CLIP: the older files.
path = fresh("clip_files")
write(path + "/vocab.json", json.dumps(clip_vocab, ensure_ascii=False))
write(path + "/merges.txt", "#version: 0.2\n" + "".join(a + " " + b + "\n" for a, b in merges))
special = {k: {"content": v, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
           for k, v in [("bos_token", "<|startoftext|>"), ("eos_token", "<|endoftext|>"), ("unk_token", "<|endoftext|>")]}
write(path + "/special_tokens_map.json", json.dumps(special | {"pad_token": "!"}))
write(path + "/tokenizer_config.json", json.dumps({k: v | {"__type": "AddedToken"} for k, v in special.items()} | {
    "pad_token": "!", "add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77,
    "tokenizer_class": "CLIPTokenizer"}))
check("clip_files", CLIPTokenizer.from_pretrained(path), 12)
# CLIP: what transformers 5 writes.
path = fresh("clip_json")
clip = CLIPTokenizer(vocab=clip_vocab, merges=merges, model_max_length=77)
clip.save_pretrained(path)
check("clip_json", CLIPTokenizer.from_pretrained(path), 9)
# BERT.
path = fresh("bert_files")
write(path + "/vocab.txt", "".join(w + "\n" for w in bert_vocab))
write(path + "/tokenizer_config.json", json.dumps({"do_lower_case": True, "model_max_length": 77, "tokenizer_class": "BertTokenizer"}))
check("bert_files", BertTokenizer.from_pretrained(path), 12)
path = fresh("bert_json")
BertTokenizer(vocab=bert_vocab, model_max_length=int(1e30)).save_pretrained(path)
check("bert_json", BertTokenizer.from_pretrained(path), 9)
path = fresh("bert_cased")
BertTokenizer(vocab=bert_vocab, do_lower_case=False, tokenize_chinese_chars=False).save_pretrained(path)
check("bert_cased", BertTokenizer.from_pretrained(path), 9)
path = fresh("bert_accents")
BertTokenizer(vocab=bert_vocab, do_lower_case=True, strip_accents=False).save_pretrained(path)
check("bert_accents", BertTokenizer.from_pretrained(path), 9)

write(os.path.join(here, "recorded.json"), json.dumps(record))
