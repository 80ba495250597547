package diffusion

import (
	"bytes"
	"math"
)

// Python's json writes the numbers -Infinity, Infinity and NaN, which JSON does
// not have (diffusers' lambda_min_clipped is -Infinity). Between reading and
// writing they are strings that no one would write otherwise.
var strange = []struct {
	number, quoted string
	value          float64
}{
	{"-Infinity", `"\u0000-Infinity"`, math.Inf(-1)},
	{"Infinity", `"\u0000Infinity"`, math.Inf(1)},
	{"NaN", `"\u0000NaN"`, math.NaN()},
}

// quoteInfinities returns data with those numbers outside strings quoted.
func quoteInfinities(data []byte) []byte {
	var out bytes.Buffer
	inString := false
next:
	for i := 0; i < len(data); {
		switch c := data[i]; {
		case inString && c == '\\' && i+1 < len(data):
			out.Write(data[i : i+2])
			i += 2
			continue
		case c == '"':
			inString = !inString
		case !inString && (c == '-' || c == 'I' || c == 'N'):
			for _, s := range strange {
				if bytes.HasPrefix(data[i:], []byte(s.number)) {
					out.WriteString(s.quoted)
					i += len(s.number)
					continue next
				}
			}
		}
		out.WriteByte(data[i])
		i++
	}
	return out.Bytes()
}

// unquoteInfinities undoes quoteInfinities.
func unquoteInfinities(data []byte) []byte {
	for _, s := range strange {
		data = bytes.ReplaceAll(data, []byte(s.quoted), []byte(s.number))
	}
	return data
}
