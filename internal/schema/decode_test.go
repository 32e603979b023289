package schema

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzDecode compares what is decoded with what encoding/json makes of it.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2.5e3,true,false,null,"x"],"b":{"c":{}},"d":[]}`, `"\u00e9\ud83d\ude00\ud800\n\"\\\/\b\f\r\t"`, ` [ ] `, `{"a":1,"a":2}`, `"\ud800\u0041"`,
		`{"a\"b":1,"a\\":2,"\u0061":3,"a":4}`, `{`, `[1,]`, `-`, `"\u12"`, `{"a" 1}`, `{"a":1 "b":2}`, `tru`, `"a`, `"\`,
	} {
		f.Add([]byte(seed))
	}
	var names Decoder // that remembers what it has met
	f.Fuzz(func(t *testing.T, data []byte) {
		got := names.Decode(data)
		if !json.Valid(data) || !utf8.Valid(data) {
			return // it only has to end
		}
		if got.err != nil {
			require.ErrorContains(t, got.err, "a number has", "valid JSON is read, but for numbers beyond the bounds")
			return
		}
		want := json.NewDecoder(bytes.NewReader(data))
		want.UseNumber()
		var value any
		require.NoError(t, want.Decode(&value))
		require.Equal(t, value, got.value)
	})
}

func TestManyNamesAreNotKept(t *testing.T) {
	var d Decoder
	for i := range 3000 {
		name := strings.Repeat("n", i)
		require.Equal(t, map[string]any{name: nil}, d.Decode([]byte(`{"`+name+`":null}`)).value)
	}
	require.LessOrEqual(t, len(d.names), maxNames)
}
