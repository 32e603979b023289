package schema_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/schema"
)

func compiled(t testing.TB, text string) *schema.Schema {
	t.Helper()
	s, err := schema.Compile([]byte(text))
	require.NoError(t, err)
	require.NotNil(t, s)
	return s
}

func check(s *schema.Schema, data string) string {
	if err := s.Check(new(schema.Decoder).Decode([]byte(data))); err != nil {
		return err.Error()
	}
	return ""
}

func TestASchemaThatTakesEveryObjectIsNoSchema(t *testing.T) {
	for _, text := range []string{
		`null`, `true`, `{}`, ` {"type": "object"} `, `{"type":["null","object"]}`, `{"title":"Order","description":"d","$comment":"c","type":"object"}`,
	} {
		s, err := schema.Compile([]byte(text))
		require.NoError(t, err, text)
		require.Nil(t, s, text)
	}
	for _, text := range []string{`false`, `{"type":"string"}`, `{"type":[]}`, `{"required":["id"]}`, `{"$defs":{}}`} {
		s, err := schema.Compile([]byte(text))
		require.True(t, s != nil || err != nil, text)
	}
}

func TestAViolationNamesPlaceAndKeywordAndNoValue(t *testing.T) {
	const order = `{"type":"object","required":["id","status"],"properties":{
		"id":{"type":"integer","minimum":1},
		"status":{"enum":["new","paid"]},
		"total":{"type":["number","null"],"multipleOf":0.01},
		"card":{"type":"string","pattern":"^[0-9]{4}$"},
		"lines":{"type":"array","minItems":1,"uniqueItems":true,"items":{"$ref":"#/$defs/line"}},
		"note":{"anyOf":[{"type":"null"},{"type":"string","maxLength":4}]},
		"~a/b":{"const":1}},
		"additionalProperties":false,
		"$defs":{"line":{"type":"object","required":["sku"],"properties":{"sku":{"type":"string"}}}}}`
	s := compiled(t, order)
	for _, tc := range [][2]string{
		{`{"id":1,"status":"paid"}`, ""},
		{`{"id":1,"status":"paid","total":12.50,"lines":[{"sku":"a"},{"sku":"b"}],"note":"abcd"}`, ""},
		{`{"id":1,"status":"paid","total":null}`, ""},
		{`{"id":1.0,"status":"paid"}`, ""},
		{`{"id":123456789012345678901234567890,"status":"\u0070aid"}`, ""},
		{`{"status":"paid"}`, "data lacks id"},
		{`{}`, "data lacks id, status"},
		{`{"id":"secret","status":"paid"}`, "data/id is string, not integer"},
		{`{"id":-77,"status":"paid"}`, "data/id does not satisfy #/properties/id/minimum"},
		{`{"id":1,"status":"secret"}`, "data/status does not satisfy #/properties/status/enum"},
		{`{"id":1,"status":"paid","total":12.505}`, "data/total does not satisfy #/properties/total/multipleOf"},
		{`{"id":1,"status":"paid","card":"secret"}`, "data/card does not satisfy #/properties/card/pattern"},
		{`{"id":1,"status":"paid","lines":[{"sku":"a"},{"sku":7}]}`, "data/lines/1/sku is number, not string"},
		{`{"id":1,"status":"paid","lines":[{"sku":"a"},{"sku":"a"}]}`, "data/lines does not satisfy #/properties/lines/uniqueItems"},
		{`{"id":1,"status":"paid","note":"secret"}`, "data/note does not satisfy #/properties/note/anyOf"},
		{`{"id":1,"status":"paid","~a/b":2}`, "data/~0a~1b does not satisfy #/properties/~0a~1b/const"},
		{`{"id":1,"status":"paid","extra":"secret","another":1}`, "data has what the schema does not name: another, extra"},
		{`{"id":"secret","status":"secret","lines":[{},{"sku":"a"}]}`, "data/id is string, not integer; and 2 more"},
		{`{"id":1,"status":"paid","total":1e1001}`, "data cannot be checked: a number has an exponent beyond 1000"},
		{`{"id":1` + strings.Repeat("0", 10_000) + `,"status":"paid"}`, "data cannot be checked: a number has more than 10000 digits"},
		{`{"id":1,"status":"paid","x":` + strings.Repeat("[", 20_000), "data cannot be checked: it is nested too deep"},
		{`{"id":1,"status":"paid"`, "data cannot be checked: it is no JSON"},
		{`{"id":1,"status":"paid","` + strings.Repeat("k", 9999) + `":1}`, "data has what the schema does not name: " + strings.Repeat("k", 200) + "…"},
	} {
		data, want := tc[0], tc[1]
		got := check(s, data)
		require.Equal(t, want, got, "%.200s", data)
		require.NotContains(t, got, "secret")
		require.Equal(t, got, check(s, data), "the same again")
	}
}

func TestDraftsAreThoseThatTheSchemaNames(t *testing.T) {
	old := compiled(t, `{"$schema":"http://json-schema.org/draft-07/schema#","properties":{"at":{"format":"date-time"}},"definitions":{"x":{}},"dependencies":{"a":["b"]}}`)
	require.Equal(t, "data does not satisfy #/dependency/a", check(old, `{"a":1}`))
	require.Equal(t, "data/at does not satisfy #/properties/at/format", check(old, `{"at":"noon"}`), "an assertion up to draft 7")
	now := compiled(t, `{"properties":{"at":{"format":"date-time"}},"dependentRequired":{"a":["b"]},"unevaluatedProperties":false}`)
	require.Equal(t, "data does not satisfy #/dependentRequired/a", check(now, `{"a":1,"at":"x"}`)[:len("data does not satisfy #/dependentRequired/a")])
	require.Empty(t, check(compiled(t, `{"properties":{"at":{"format":"date-time"}},"required":["at"]}`), `{"at":"infinity"}`), "an annotation since")
}

func TestNothingIsReadOutsideOfTheSchema(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		_, _ = w.Write([]byte(`{}`))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "s.json")
	require.NoError(t, os.WriteFile(file, []byte(`{}`), 0o600))
	for _, text := range []string{
		`{"$ref":"` + server.URL + `/s.json"}`,
		`{"properties":{"a":{"$ref":"` + server.URL + `/s.json#/a"}}}`,
		`{"$schema":"` + server.URL + `/s.json","required":["a"]}`,
		`{"$dynamicRef":"` + server.URL + `/s.json"}`,
		`{"$ref":"file://` + file + `"}`,
		`{"$ref":"` + file + `"}`,
		`{"$ref":"other.json"}`,
		`{"$id":"` + server.URL + `/here","$ref":"there"}`,
	} {
		_, err := schema.Compile([]byte(text))
		require.ErrorContains(t, err, "nothing outside of the schema is read", text)
	}
	require.Zero(t, asked)
	s := compiled(t, `{"$id":"`+server.URL+`/order","properties":{"a":{"$ref":"line"}},"$defs":{"line":{"$id":"line","type":"string"}}}`)
	require.Equal(t, "data/a is number, not string", check(s, `{"a":1}`))
	require.Zero(t, asked, "an embedded schema has an address, which is not where it is read from")
}

func TestWhatIsNoSchemaIsRefusedInOneLine(t *testing.T) {
	for text, want := range map[string]string{
		``:                               "it is no JSON",
		`{"type":"object"`:               "it is no JSON",
		`{"type":"objekt"}`:              "it is no valid JSON Schema: it/type does not satisfy",
		`{"required":"id"}`:              "it is no valid JSON Schema: it/required is string, not array",
		`{"properties":{"a":7}}`:         "it is no valid JSON Schema: it/properties/a is number, not boolean or object",
		`{"$ref":"#/$defs/missing"}`:     "missing",
		`{"pattern":"(?=x)"}`:            "pattern",
		`{"$schema":"urn:x","type":"a"}`: "nothing outside of the schema is read",
		`7`:                              "it is no valid JSON Schema",
	} {
		_, err := schema.Compile([]byte(text))
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "\n")
		require.NotContains(t, err.Error(), "registry:")
	}
}

func TestAHostileSchemaIsBounded(t *testing.T) {
	many := make([]string, 6000)
	for i := range many {
		many[i] = fmt.Sprintf(`"%d":{}`, i)
	}
	patterns := make([]string, 40)
	for i := range patterns {
		patterns[i] = fmt.Sprintf(`"%d(\\pL{1000})":{"type":"string"}`, i)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"size":     {`{"const":"` + strings.Repeat("x", 70_000) + `"}`, "65536 are allowed"},
		"depth":    {strings.Repeat(`{"not":`, 65) + `{}` + strings.Repeat(`}`, 65), "nested too deep"},
		"values":   {`{"properties":{` + strings.Join(many, ",") + `}}`, "more than 5000 values"},
		"patterns": {`{"patternProperties":{` + strings.Join(patterns, ",") + `}}`, "too large together"},
		"number":   {`{"minimum":1e1000000000}`, "exponent"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, err := schema.Compile([]byte(tc.text))
			require.ErrorContains(t, err, tc.want)
			require.Less(t, time.Since(began), 5*time.Second)
		})
	}
}

func TestTheWorkOnOneEventIsBounded(t *testing.T) {
	doubling := []string{`"d0":{"required":["x"]}`}
	for i := 1; i < 30; i++ {
		doubling = append(doubling, fmt.Sprintf(`"d%d":{"anyOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]}`, i, i-1, i-1))
	}
	for name, tc := range map[string]struct{ text, data string }{
		"alternatives":        {`{"$ref":"#/$defs/d29","$defs":{` + strings.Join(doubling, ",") + `}}`, `{}`},
		"recursion":           {`{"$ref":"#/$defs/n","$defs":{"n":{"anyOf":[{"properties":{"c":{"$ref":"#/$defs/n"}},"required":["x"]},{"properties":{"c":{"$ref":"#/$defs/n"}},"required":["y"]}]}}}`, strings.Repeat(`{"c":`, 40) + `{}` + strings.Repeat(`}`, 40)},
		"a pattern":           {`{"properties":{"a":{"pattern":"(\\pL{900})x$"}}}`, `{"a":"` + strings.Repeat("a", 1<<20) + `"}`},
		"an endless referral": {`{"$ref":"#"}`, `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := compiled(t, tc.text)
			began := time.Now()
			got := check(s, tc.data)
			require.NotEmpty(t, got)
			if name != "an endless referral" {
				require.Equal(t, "data cannot be checked: the schema needs too much work for it", got)
			}
			require.Less(t, time.Since(began), 5*time.Second)
			require.Equal(t, got, check(s, tc.data), "what one event has spent is not missing at the next")
		})
	}
	rows := compiled(t, `{"properties":{"rows":{"items":{"type":"object","properties":{"a":{"type":"integer"},"b":{"pattern":"^x+$"}},"required":["a"]}}}}`)
	require.Empty(t, check(rows, `{"rows":[`+strings.Repeat(`{"a":1,"b":"xxxx"},`, 50_000)+`{"a":1}]}`), "an ordinary schema is not short of it")
}

func BenchmarkCheck(b *testing.B) {
	const thing = `{"ns":"onet","id":"15-1252.00","type":"Function","content":"Design and develop. Design and develop. Design and develop. Design and develop.","data":{"tags": ["a", "b"], "title": "Software Developers", "status": "new"},"visibility":"public","user_id":"user_1","created_at":"2026-11-23T10:00:00.123456Z","updated_at":"2026-11-23T10:00:00.123456Z"}`
	optional := `{"type":["string","null"]}`
	s := compiled(b, `{"type":"object","required":["ns","id","type"],"properties":{"ns":{"type":"string"},"id":{"type":"string"},"type":{"type":"string"},"content":`+optional+
		`,"code":`+optional+`,"data":{},"visibility":{"enum":["public","unlisted","private"]},"created_at":`+optional+`,"updated_at":`+optional+`}}`)
	var decoder schema.Decoder
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			decoder.Decode([]byte(thing))
		}
	})
	b.Run("decode and check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Check(decoder.Decode([]byte(thing))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check, decoded for another schema", func(b *testing.B) {
		doc := decoder.Decode([]byte(thing))
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Check(doc); err != nil {
				b.Fatal(err)
			}
		}
	})
}
