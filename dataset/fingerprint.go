package dataset

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
)

// Fingerprint returns an identifier of the contents, 64 hexadecimal digits, by
// which a ledger knows the data set again. Neither the order of the images nor
// the files they came in matter; labels count by the name of their class, and
// captions as they are.
//
// It is HMAC-SHA256 under key, since a plain hash would let anyone confirm a
// guess at the data. Keep the key private, and the same for runs on the same data.
func (s *Set) Fingerprint(key []byte) string {
	sums := make([][]byte, s.Len())
	for i := range sums {
		h := hmac.New(sha256.New, key)
		h.Write([]byte("scumble example v1"))
		name := ""
		if s.Labels != nil {
			name = s.Classes[s.Labels[i]]
		}
		// Lengths first: no two examples give the same bytes.
		for _, n := range []int{s.Height, s.Width, s.Channels, len(name)} {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
		}
		h.Write([]byte(name))
		h.Write(s.Image(i))
		if s.Captions != nil {
			h.Write([]byte("caption"))
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s.Captions[i]))))
			h.Write([]byte(s.Captions[i]))
		}
		sums[i] = h.Sum(nil)
	}
	slices.SortFunc(sums, bytes.Compare)
	h := hmac.New(sha256.New, key)
	h.Write([]byte("scumble data set v1"))
	for _, sum := range sums {
		h.Write(sum)
	}
	return hex.EncodeToString(h.Sum(nil))
}
