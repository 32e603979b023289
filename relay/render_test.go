package relay

import (
	"encoding/json"
	"regexp"
	"strings"
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
		{"bool that is none", &Type{OID: 16}, "maybe", `"maybe"`},
		{"jsonb of a type that may have been another", &Type{OID: 3802, Unsure: true}, `{"a": [1, 1.50]}`, `{"a": [1, 1.50]}`},
		{"and was another", &Type{OID: 3802, Unsure: true}, `{not json`, `"{not json"`},
		{"bytea of several pieces", &Type{OID: 17}, `\x` + strings.Repeat("00ff10", 1000), `"` + strings.Repeat("AP8Q", 1000) + `"`},
		{"bytea damaged behind the first piece", &Type{OID: 17}, `\x` + strings.Repeat("00", 500) + "0", `"\\x` + strings.Repeat("00", 500) + `0"`},
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
		{"array of what is quoted and needs no undoing", &Type{Kind: Array, Elem: text, Delim: ','}, `{"a b","","{}",",","NULL"}`, `["a b","","{}",",","NULL"]`},
		{"array damaged behind a quote", &Type{Kind: Array, Elem: text, Delim: ','}, `{"a"`, `"{\"a\""`},
		{"array damaged within its bounds", &Type{Kind: Array, Elem: text, Delim: ','}, `[1:2{a}`, `"[1:2{a}"`},
		{"array damaged", &Type{Kind: Array, Elem: text, Delim: ','}, `{a,"b`, `"{a,\"b"`},
		{"composite", &Type{Kind: Composite, Fields: []Field{{"id", &Type{OID: 23}}, {"name", text}, {"note", text}}}, `(7,"O""Hara, ""X""",)`, `{"id":7,"name":"O\"Hara, \"X\"","note":null}`},
		{"composite empty text", &Type{Kind: Composite, Fields: []Field{{"a", text}, {"b", text}}}, `("",)`, `{"a":"","b":null}`},
		{"composite with array", &Type{Kind: Composite, Fields: []Field{{"tags", &Type{Kind: Array, Elem: text, Delim: ','}}}}, `("{a,""b c""}")`, `{"tags":["a","b c"]}`},
		{"composite without fields", &Type{Kind: Composite}, `()`, `{}`},
		{"composite of another shape", &Type{Kind: Composite, Fields: []Field{{"a", text}}}, `(1,2)`, `"(1,2)"`},
	} {
		got := appendValue([]byte("x"), tc.typ, []byte(tc.in))
		require.Equal(t, "x"+tc.want, string(got), tc.name)
		require.True(t, json.Valid(got[1:]), tc.name)
	}
}

func TestATypeFitsValuesOfAsManyFields(t *testing.T) {
	text := &Type{OID: 25}
	pair := &Type{Kind: Composite, Fields: []Field{{"a", text}, {"b", text}}}
	house := &Type{Kind: Composite, Fields: []Field{{"rooms", &Type{Kind: Array, Elem: pair, Delim: ','}}, {"owner", pair}}}
	for in, want := range map[string]bool{
		`(,)`: true, `({},)`: true, `("{""(1,2)""}","(1,2)")`: true, `("{""(1,2)"",NULL}",)`: true,
		`()`: false, `(,,)`: false, `("{""(1,2,3)""}","(1,2)")`: false, `("{""(1,2)""}","(1)")`: false, `(,`: false, `x`: false, ``: false,
	} {
		require.Equal(t, want, house.Fits([]byte(in)), in)
	}
	require.True(t, text.Fits([]byte("(")))
}

func TestValuesAreRenderedWithoutAnAllocation(t *testing.T) {
	text, int4 := &Type{OID: 25}, &Type{OID: oidInt4}
	dst := make([]byte, 0, 1<<12)
	for _, tc := range []struct {
		typ *Type
		in  string
	}{
		{text, "say \"hi\""},
		{int4, "7"},
		{&Type{OID: oidNumeric}, "NaN"},
		{&Type{OID: oidJSONB}, `{"a": 1}`},
		{&Type{OID: oidBytea}, `\x` + strings.Repeat("00", 500)},
		{&Type{OID: oidTimestamptz}, "2026-11-23 10:00:00+00"},
		{&Type{Kind: Array, Elem: int4, Delim: ','}, "[0:1]={1,NULL}"},
		{&Type{Kind: Array, Elem: text, Delim: ','}, `{a,"b c",NULL}`},
		{&Type{Kind: Composite, Fields: []Field{{"n", int4}, {"s", text}}}, `(1,"a b")`},
	} {
		in := []byte(tc.in)
		require.Zero(t, testing.AllocsPerRun(100, func() { dst = appendValue(dst[:0], tc.typ, in) }), tc.in)
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
		{Kind: Composite, Fields: []Field{{"a", &Type{OID: 3802, Unsure: true}}, {"b", &Type{OID: 114, Unsure: true}}}},
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

// TestTimestampsAreToldByEveryByte changes each byte of good ones to every other.
func TestTimestampsAreToldByEveryByte(t *testing.T) {
	simple := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?$`)
	for _, good := range []string{"2026-11-23 10:00:00", "2026-11-23 10:00:00.1", "1999-09-19 09:59:39.123456"} {
		require.True(t, isTimestamp([]byte(good)))
		for i := range good {
			require.Equal(t, simple.MatchString(good[:i]), isTimestamp([]byte(good[:i])), good[:i])
			for c := range 256 {
				s := []byte(good)
				s[i] = byte(c)
				require.Equal(t, simple.Match(s), isTimestamp(s), "%q", s)
			}
		}
	}
}
