package relay

import (
	"strings"
	"testing"
)

func BenchmarkValue(b *testing.B) {
	text, int4 := &Type{OID: 25}, &Type{OID: oidInt4}
	pair := &Type{Kind: Composite, Fields: []Field{{"n", int4}, {"s", text}}}
	for _, bc := range []struct {
		name string
		typ  *Type
		in   string
	}{
		{"text", text, strings.Repeat("a line of text ", 20)},
		{"numeric", &Type{OID: oidNumeric}, "1234567890.1234567890"},
		{"timestamptz", &Type{OID: oidTimestamptz}, "2026-11-23 10:00:00.123456+00"},
		{"jsonb", &Type{OID: oidJSONB}, `{"tags": ["a", "b"], "title": "` + strings.Repeat("x", 200) + `"}`},
		{"bytea", &Type{OID: oidBytea}, `\x` + strings.Repeat("00ff10", 100)},
		{"int[]", &Type{Kind: Array, Elem: int4, Delim: ','}, "{" + strings.Repeat("12345,", 20) + "NULL}"},
		{"text[]", &Type{Kind: Array, Elem: text, Delim: ','}, `{plain,"quoted text","with \" and \\",NULL}`},
		{"composite", pair, `(12345,"quoted text")`},
		{"composite[]", &Type{Kind: Array, Elem: pair, Delim: ','}, `{"(1,a)","(2,\"b c\")",NULL}`},
	} {
		b.Run(bc.name, func(b *testing.B) {
			in, dst := []byte(bc.in), make([]byte, 0, 4096)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				dst = appendValue(dst[:0], bc.typ, in)
			}
		})
	}
}
