package relay

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestValuesKeepEveryDigitAndBecomeWhatJSONCanSay(t *testing.T) {
	text := &Type{OID: 25}
	for _, tc := range []struct {
		name string
		typ  *Type
		in   string
		want string
	}{
		{"bool true", &Type{OID: 16}, "t", "true"},
		{"bool false", &Type{OID: 16}, "f", "false"},
		{"int8", &Type{OID: 20}, "-9223372036854775808", "-9223372036854775808"},
		{"numeric digits", &Type{OID: 1700}, "12345678901234567890.123456789012345678900", "12345678901234567890.123456789012345678900"},
		{"numeric NaN", &Type{OID: 1700}, "NaN", `"NaN"`},
		{"numeric infinity", &Type{OID: 1700}, "-Infinity", `"-Infinity"`},
		{"float exponent", &Type{OID: 701}, "1e+300", "1e+300"},
		{"float NaN", &Type{OID: 700}, "NaN", `"NaN"`},
		{"jsonb as it is", &Type{OID: 3802}, `{"a": [1, 1.50, "x"]}`, `{"a": [1, 1.50, "x"]}`},
		{"json null", &Type{OID: 114}, "null", "null"},
		{"timestamptz", &Type{OID: 1184}, "2026-11-23 10:00:00.123456+00", `"2026-11-23T10:00:00.123456Z"`},
		{"timestamptz whole second", &Type{OID: 1184}, "2026-11-23 10:00:00+00", `"2026-11-23T10:00:00Z"`},
		{"timestamp", &Type{OID: 1114}, "2026-11-23 10:00:00.5", `"2026-11-23T10:00:00.5Z"`},
		{"timestamp infinity", &Type{OID: 1184}, "infinity", `"infinity"`},
		{"timestamp before Christ", &Type{OID: 1114}, "0044-03-15 00:00:00 BC", `"0044-03-15 00:00:00 BC"`},
		{"timestamp of year 10000", &Type{OID: 1114}, "10000-01-01 00:00:00", `"10000-01-01 00:00:00"`},
		{"date", &Type{OID: 1082}, "2026-11-23", `"2026-11-23"`},
		{"bytea", &Type{OID: 17}, `\xdeadbeef`, `"3q2+7w=="`},
		{"bytea empty", &Type{OID: 17}, `\x`, `""`},
		{"text escapes", text, "a\"b\\c\n\t\r\x01é\u2028", `"a\"b\\c\n\t\r\u0001é` + "\u2028" + `"`},
		{"text not UTF-8", text, "a\xffb", "\"a\uFFFDb\""},
		{"array of int", &Type{Kind: Array, Elem: &Type{OID: 23}, Delim: ','}, "{1,NULL,3}", "[1,null,3]"},
		{"array empty", &Type{Kind: Array, Elem: text, Delim: ','}, "{}", "[]"},
		{"array of text", &Type{Kind: Array, Elem: text, Delim: ','}, `{a,"b,c","NULL","d\"e\\"}`, `["a","b,c","NULL","d\"e\\"]`},
		{"array nested", &Type{Kind: Array, Elem: &Type{OID: 23}, Delim: ','}, "{{1,2},{3,4}}", "[[1,2],[3,4]]"},
		{"array with bounds", &Type{Kind: Array, Elem: &Type{OID: 23}, Delim: ','}, "[0:1]={1,2}", "[1,2]"},
		{"array of box", &Type{Kind: Array, Elem: &Type{OID: 603}, Delim: ';'}, "{(1,1),(0,0);(2,2),(1,1)}", `["(1,1),(0,0)","(2,2),(1,1)"]`},
		{"array damaged", &Type{Kind: Array, Elem: text, Delim: ','}, `{a,"b`, `"{a,\"b"`},
		{"composite", &Type{Kind: Composite, Fields: []Field{{"id", &Type{OID: 23}}, {"name", text}, {"note", text}}}, `(7,"O""Hara, ""X""",)`, `{"id":7,"name":"O\"Hara, \"X\"","note":null}`},
		{"composite empty text", &Type{Kind: Composite, Fields: []Field{{"a", text}, {"b", text}}}, `("",)`, `{"a":"","b":null}`},
		{"composite with array", &Type{Kind: Composite, Fields: []Field{{"tags", &Type{Kind: Array, Elem: text, Delim: ','}}}}, `("{a,""b c""}")`, `{"tags":["a","b c"]}`},
		{"composite of another shape", &Type{Kind: Composite, Fields: []Field{{"a", text}}}, `(1,2)`, `"(1,2)"`},
	} {
		got := appendValue([]byte("x"), tc.typ, []byte(tc.in))
		require.Equal(t, "x"+tc.want, string(got), tc.name)
		require.True(t, json.Valid(got[1:]), tc.name)
	}
}

func FuzzValuesAreAlwaysJSON(f *testing.F) {
	text := &Type{OID: 25}
	types := []*Type{
		{OID: 16},
		{OID: 20},
		{OID: 1700},
		{OID: 701},
		{OID: 1184},
		{OID: 17},
		text,
		{Kind: Array, Elem: text, Delim: ','},
		{Kind: Array, Elem: &Type{OID: 603}, Delim: ';'},
		{Kind: Composite, Fields: []Field{{"a", &Type{OID: 23}}, {"b", &Type{Kind: Array, Elem: text, Delim: ','}}}},
	}
	for _, s := range []string{"t", "1.5e3", "NaN", "{1,2}", `("x",)`, `\x00`, "2026-11-23 10:00:00+00", "{{{", "(", `"`, "-", "01", "1.", `0000-0"-00 00:00:000`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, typ := range types {
			got := appendValue(nil, typ, in)
			if !json.Valid(got) || !utf8.Valid(got) {
				t.Fatalf("type %+v of %q gave %q", typ, in, got)
			}
		}
	})
}
