"""Writes the .parquet files beside it: five grey images of 28 pixels, image i of
value 10·i, with captions. Run with pyarrow 26.0.1 and datasets 5.2.0 (pillow):

    python parquet.py
"""
import io
import os

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

os.chdir(os.path.dirname(os.path.abspath(__file__)))
pictures, texts = [], []
for i in range(5):
    out = io.BytesIO()
    Image.new("L", (28, 28), 10 * i).save(out, "png")
    pictures.append(out.getvalue())
    texts.append(f"caption {i % 2}, ünïcode")

structs = [{"bytes": p, "path": f"{i}.png"} for i, p in enumerate(pictures)]
datasets.Dataset.from_dict({"image": structs, "text": texts}).cast_column("image", datasets.Image()).to_parquet("datasets.parquet")
table = pa.table({"image": pa.array(structs, pa.struct([("bytes", pa.binary()), ("path", pa.string())])), "caption": texts, "id": list(range(5))})
pq.write_table(table, "arrow-v2-zstd.parquet", data_page_version="2.0", compression="zstd", row_group_size=2)
plain = pa.table({"image": pictures, "text": texts})
pq.write_table(plain, "arrow-delta-gzip.parquet", compression="gzip", use_dictionary=False, store_schema=False,
               column_encoding={"image": "DELTA_LENGTH_BYTE_ARRAY", "text": "DELTA_BYTE_ARRAY"})
pq.write_table(plain, "arrow-lz4.parquet", compression="lz4", use_dictionary=False)
