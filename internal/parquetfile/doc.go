// Package parquetfile reads columns of byte arrays and integers of Parquet files
// (https://github.com/apache/parquet-format), one row group at a time, of files that
// nobody vouches for: nothing in a file makes it take more than a small multiple of
// the file's size in memory, or panic, or go on for long.
//
// It knows data pages of both versions, the encodings plain, dictionary, delta and
// run length, and the codecs snappy, gzip, zstd and LZ4 raw. Lists are not read, nor
// are encrypted files, brotli, LZO and the old LZ4.
package parquetfile
