package filters_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

// rule is one statement about containment. TestPostgresSaysWhatTheRulesSay asks a
// server whether each is true.
type rule struct {
	doc, filter string
	contained   bool
}

// rules are grouped by the idea they show. Where Postgres' documentation compares
// arrays at the root, these wrap them in an object, as a filter is always an object.
var rules = map[string][]rule{
	"the roots must be of one kind": {
		{`[]`, `{}`, false},
		{`[{"a":1}]`, `{"a":1}`, false},
		{`"a"`, `{}`, false},
		{`1`, `{}`, false},
		{`null`, `{}`, false},
	},
	"every key of the filter must be there, other keys do not matter": {
		{`{}`, `{}`, true},
		{`{"a":1}`, `{}`, true},
		{`{"a":"b","b":1,"c":null}`, `{"a":"b"}`, true},
		{`{"a":"b","b":1,"c":null}`, `{"a":"b","c":null}`, true},
		{`{"a":"b","b":1,"c":null}`, `{"a":"b","g":null}`, false},
		{`{"a":"b","b":1,"c":null}`, `{"a":"c"}`, false},
		{`{"a":"b","b":1,"c":null}`, `{"a":"b","c":"q"}`, false},
		{`{"product": "PostgreSQL", "version": 9.4, "jsonb": true}`, `{"version": 9.4}`, true},
		{`{"a":1}`, `{"a":1,"b":2}`, false},
	},
	"a nested object must be at the same level": {
		{`{"foo":{"bar":"baz"}}`, `{"bar":"baz"}`, false},
		{`{"foo":{"bar":"baz"}}`, `{"foo":{}}`, true},
		{`{"foo":{"bar":"baz","x":1}}`, `{"foo":{"bar":"baz"}}`, true},
		{`{"foo":{"bar":"baz"}}`, `{"foo":{"bar":{}}}`, false},
		{`{"a":{"b":{"c":[1]}}}`, `{"a":{"b":{"c":[1]}}}`, true},
		{`{"a":{"b":{"c":[1]}}}`, `{"a":{"c":[1]}}`, false},
	},
	"missing is not null": {
		{`{}`, `{"a":null}`, false},
		{`{"a":null}`, `{"a":null}`, true},
		{`{"a":null}`, `{"a":{}}`, false},
		{`{"a":{}}`, `{"a":{"b":null}}`, false},
		{`{"a":[]}`, `{"a":[null]}`, false},
	},
	"an array of the filter is a set": {
		{`{"v":[1,2]}`, `{"v":[2,1,1]}`, true},
		{`{"v":[1,1,2]}`, `{"v":[1,2,2]}`, true},
		{`{"v":[[1,2]]}`, `{"v":[[1,2,2]]}`, true},
		{`{"v":[1,2,3]}`, `{"v":[1,3]}`, true},
		{`{"v":[1,2,3]}`, `{"v":[3,1]}`, true},
		{`{"v":[1,2,3]}`, `{"v":[1,2,2]}`, true},
		{`{"v":[1,2,3]}`, `{"v":[4]}`, false},
		{`{"v":[{"a":1,"b":2}]}`, `{"v":[{"a":1},{"b":2}]}`, true},
		{`{"v":["9",["7","3"],1]}`, `{"v":["9",["7","3"],1]}`, true},
		{`{"v":["9",["7","3"],["1"]]}`, `{"v":["9",["7","3"],["1"]]}`, true},
		{`{"name":"Bob","tags":["enim","qui"]}`, `{"tags":["qu"]}`, false},
		{`{"v":[null,true,false]}`, `{"v":[false,null]}`, true},
		{`{"v":[null,true]}`, `{"v":[false]}`, false},
	},
	"elements do not mix": {
		{`{"v":[{"a":1},{"b":2}]}`, `{"v":[{"a":1,"b":2}]}`, false},
		{`{"v":[[1,2],[3]]}`, `{"v":[[1,3]]}`, false},
		{`{"v":[1,2,[1,3]]}`, `{"v":[1,3]}`, false},
		{`{"v":[1,2,[1,3]]}`, `{"v":[[1,3]]}`, true},
		{`{"v":[{"a":[1]},{"a":[2]}]}`, `{"v":[{"a":[1,2]}]}`, false},
	},
	"a scalar is never found in a nested array": {
		{`{"a":["x"]}`, `{"a":"x"}`, false},
		{`{"a":"x"}`, `{"a":["x"]}`, false},
		{`{"a":[["x"]]}`, `{"a":["x"]}`, false},
	},
	"an empty container matches any of its kind": {
		{`{"a":[1]}`, `{"a":[]}`, true},
		{`{"a":[]}`, `{"a":[]}`, true},
		{`{"a":[]}`, `{"a":{}}`, false},
		{`{"a":{}}`, `{"a":[]}`, false},
		{`{"a":[1]}`, `{"a":[[]]}`, false},
		{`{"a":[[1]]}`, `{"a":[[]]}`, true},
		{`{"a":[{"b":1}]}`, `{"a":[{}]}`, true},
		{`{"a":1}`, `{"a":{}}`, false},
		{`{"a":""}`, `{"a":[]}`, false},
	},
	"nothing is coerced": {
		{`{"a":1}`, `{"a":"1"}`, false},
		{`{"a":"1"}`, `{"a":1}`, false},
		{`{"a":1}`, `{"a":true}`, false},
		{`{"a":0}`, `{"a":false}`, false},
		{`{"a":"true"}`, `{"a":true}`, false},
		{`{"a":null}`, `{"a":false}`, false},
		{`{"a":null}`, `{"a":0}`, false},
		{`{"a":null}`, `{"a":""}`, false},
		{`{"a":"null"}`, `{"a":null}`, false},
	},
	"numbers are decimals of any notation": {
		{`{"n":1}`, `{"n":1.0}`, true},
		{`{"n":1}`, `{"n":10e-1}`, true},
		{`{"n":1.50}`, `{"n":0.15E+1}`, true},
		{`{"n":-0}`, `{"n":0}`, true},
		{`{"n":0}`, `{"n":-0.00e7}`, true},
		{`{"n":1}`, `{"n":-1}`, false},
		{`{"n":9007199254740993}`, `{"n":9007199254740992}`, false},
		{`{"n":9007199254740993}`, `{"n":9007199254740993.0}`, true},
		{`{"n":1e400}`, `{"n":10e399}`, true},
		{`{"n":1e400}`, `{"n":1e401}`, false},
		{`{"n":0.1}`, `{"n":0.10000000000000000001}`, false},
		{`{"n":0.10000000000000000001}`, `{"n":0.1}`, false},
		{`{"n":1000}`, `{"n":1e3}`, true},
		{`{"n":0e999999}`, `{"n":0}`, true},
		{`{"n":100}`, `{"n":10}`, false},
		{`{"n":10}`, `{"n":100}`, false},
		{`{"n":[1.0,2.50]}`, `{"n":[25e-1,1]}`, true},
	},
	"strings are bytes after unescaping": {
		{`{"s":"A"}`, `{"s":"\u0041"}`, true},
		{`{"s":"\u0041"}`, `{"s":"A"}`, true},
		{`{"s":"\/"}`, `{"s":"/"}`, true},
		{`{"s":"\ud83d\ude00"}`, `{"s":"😀"}`, true},
		{`{"s":"😀"}`, `{"s":"\uD83D\uDE00"}`, true},
		{`{"s":"é"}`, `{"s":"e\u0301"}`, false},
		{`{"s":"a"}`, `{"s":"A"}`, false},
		{`{"s":"a "}`, `{"s":"a"}`, false},
		{`{"s":"a\\b"}`, `{"s":"a\b"}`, false},
		{`{"s":"a\b"}`, `{"s":"a\\b"}`, false},
		{`{"s":"\t\n"}`, `{"s":"\u0009\u000A"}`, true},
		{`{"s":"\u00e9x"}`, `{"s":"éx"}`, true},
		{`{"s":"ab\u0063"}`, `{"s":"ab"}`, false},
		{`{"s":"\u0061"}`, `{"s":"ab"}`, false},
		{`{"s":["\u0062","c"]}`, `{"s":["b"]}`, true},
	},
	"keys are compared like strings": {
		{`{"\u0061":1}`, `{"a":1}`, true},
		{`{"a":1}`, `{"\u0061":1}`, true},
		{`{"a.b":1}`, `{"a.b":1}`, true},
		{`{"a":{"b":1}}`, `{"a.b":1}`, false},
		{`{"a.b":1}`, `{"a":{"b":1}}`, false},
		{`{"a":[5]}`, `{"a":{"0":5}}`, false},
		{`{"*":1}`, `{"*":1}`, true},
		{`{"a":1}`, `{"*":1}`, false},
		{`{"a":1}`, `{"?":1}`, false},
		{`{"a":1}`, `{"@this":{"a":1}}`, false},
		{`{"a":[1]}`, `{"a":{"#":1}}`, false},
		{`{"":1}`, `{"":1}`, true},
		{`{"A":1}`, `{"a":1}`, false},
	},
	"of repeated keys in a document the last one counts": {
		{`{"a":1,"a":2}`, `{"a":1}`, false},
		{`{"a":1,"a":2}`, `{"a":2}`, true},
		{`{"a":1,"\u0061":2}`, `{"a":2}`, true},
		{`{"a":{"x":1},"a":{"y":2}}`, `{"a":{"x":1}}`, false},
		{`{"a":{"x":1},"a":{"y":2}}`, `{"a":{"y":2}}`, true},
		{`{"a":[{"x":1}],"a":1}`, `{"a":[{"x":1}]}`, false},
		{`{"v":[{"k":1,"k":2}]}`, `{"v":[{"k":1}]}`, false},
		{`{"v":[{"k":1,"k":2}]}`, `{"v":[{"k":2}]}`, true},
	},
	"blanks mean nothing": {
		{" \t\r\n{ \"a\" : [ 1 , 2 ] } \n", "\n{\t\"a\":[ 2\r]}", true},
	},
}

func TestMatchFollowsTheRulesOfContainment(t *testing.T) {
	for name, group := range rules {
		t.Run(name, func(t *testing.T) {
			for _, r := range group {
				require.Equal(t, verdict(r.contained), compile(t, r.filter).Match([]byte(r.doc)), "%s @> %s", r.doc, r.filter)
			}
		})
	}
}

func TestTheSlowMatcherFollowsTheSameRules(t *testing.T) {
	for _, group := range rules {
		for _, r := range group {
			require.Equal(t, r.contained, slowContains(t, []byte(r.doc), []byte(r.filter)), "%s @> %s", r.doc, r.filter)
		}
	}
}

func TestADocumentThatIsNotJSONMatchesNothing(t *testing.T) {
	filter := compile(t, `{"a":1}`)
	for _, doc := range []string{
		``, ` `, `{`, `}`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a":1}}`, `{"a":1}{}`, `{"a":1} x`,
		`{a:1}`, `{'a':1}`, `{"a":1 "b":2}`, `{"a" 1}`, `{"a":01}`, `{"a":1.}`, `{"a":.1}`, `{"a":1e}`, `{"a":1,"b":-}`,
		`{"a":+1}`, `{"a":1,"b":NaN}`, `{"a":1,"b":Infinity}`, `{"a":1,"b":nul}`, `{"a":1,"b":True}`, `{"a":1,"b":[1,]}`,
		`{"a":1,"b":[1}`, `{"a":1,"b":{]}`, `{"a":1,"b":"\x"}`, `{"a":1,"b":"\u00g0"}`, `{"a":1,"b":"\u00"}`, `{"a":1,"b":"` + "\n" + `"}`,
		`{"a":1,"b":"` + "\xff" + `"}`, `{"a":1,"b":"` + "\xed\xa0\x80" + `"}`, "\ufeff" + `{"a":1}`, `{"a":1/**/}`, `{"a":1,"b":"\"}`,
		"{\"a\":1,\v\"b\":2}", "{\"a\":1\x00}",
	} {
		require.Equal(t, filters.No, filter.Match([]byte(doc)), "%q", doc)
		require.Equal(t, filters.No, compile(t, `{}`).Match([]byte(doc)), "%q", doc)
		require.Equal(t, filters.No, filter.MatchDoc(filters.NewDoc([]byte(doc), []string{"a"})), "%q", doc)
	}
	require.Equal(t, filters.No, compile(t, `{}`).Match(nil))
	require.Equal(t, filters.No, compile(t, `{}`).MatchDoc(filters.Doc{}))
}

func TestAValueThatJSONBCannotHoldEqualsNothingAndHidesNothing(t *testing.T) {
	for _, r := range []rule{
		{`{"a":1,"b":"\u0000"}`, `{"a":1}`, true},
		{`{"a":1,"b":"\ud800"}`, `{"a":1}`, true},
		{`{"a":1,"b":1e999999}`, `{"a":1}`, true},
		{`{"a":1,"\ud800":2}`, `{"a":1}`, true},
		{`{"b":"x\u0000"}`, `{"b":"x"}`, false},
		{`{"b":"\ud800"}`, `{"b":"\ufffd"}`, false},
		{`{"b":"\ude00\ud83d"}`, `{"b":"\ufffd\ufffd"}`, false},
		{`{"b":"\ud83dx"}`, `{"b":"😀"}`, false},
		{`{"b":["\udfff"]}`, `{"b":["","\ufffd"]}`, false},
		{`{"\udfff":1}`, `{"\ufffd":1}`, false},
		{`{"b":1e999999}`, `{"b":1e131071}`, false},
		{`{"b":1e99999999999999999999}`, `{"b":1}`, false},
		{`{"b":1e-99999999999999999999}`, `{"b":0}`, false},
	} {
		require.Equal(t, verdict(r.contained), compile(t, r.filter).Match([]byte(r.doc)), "%s @> %s", r.doc, r.filter)
	}
}

func TestADocumentMayBeNestedToTheLimitAndNoFurther(t *testing.T) {
	nested := func(levels int) []byte {
		return []byte(`{"a":1,"b":` + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + `}`)
	}
	filter := compile(t, `{"a":1}`)
	for _, levels := range []int{2, 63, 64, 65, 511, 512, 513, 577, 7_000, filters.MaxDocDepth} {
		require.Equal(t, filters.Yes, filter.Match(nested(levels)), levels)
	}
	require.Equal(t, filters.No, filter.Match(nested(filters.MaxDocDepth+1)))

	mixed := strings.Repeat(`[{"k":`, 400) + "1" + strings.Repeat(`}]`, 400)
	require.Equal(t, filters.Yes, filter.Match([]byte(`{"b":`+mixed+`,"a":1}`)))
	wrong := strings.Repeat(`[{"k":`, 400) + "1" + strings.Repeat(`]}`, 400)
	require.Equal(t, filters.No, filter.Match([]byte(`{"b":`+wrong+`,"a":1}`)))
}

func TestAConditionOnAnUnavailableKeyIsUnknownUnlessAnotherSaysNo(t *testing.T) {
	for _, c := range []struct {
		filter, doc string
		unavailable []string
		want        filters.Verdict
	}{
		{`{"content":"x"}`, `{"id":1}`, []string{"content"}, filters.Unknown},
		{`{"content":{}}`, `{"id":1}`, []string{"content"}, filters.Unknown},
		{`{"content":"x","id":1}`, `{"id":1}`, []string{"content"}, filters.Unknown},
		{`{"content":"x","id":2}`, `{"id":1}`, []string{"content"}, filters.No},
		{`{"content":"x","name":"a"}`, `{"id":1}`, []string{"content"}, filters.No},
		{`{"content":"x","name":"a"}`, `{"id":1}`, []string{"content", "name"}, filters.Unknown},
		{`{"id":1}`, `{"id":1}`, []string{"content"}, filters.Yes},
		{`{}`, `{"id":1}`, []string{"content"}, filters.Yes},
		// The list wins over the document: neither the value nor its absence is trusted.
		{`{"content":"x"}`, `{"content":"x"}`, []string{"content"}, filters.Unknown},
		{`{"content":"x"}`, `{"content":"y"}`, []string{"content"}, filters.Unknown},
		// Only the top level has columns.
		{`{"row":{"content":"x"}}`, `{"row":{"content":"x"}}`, []string{"content"}, filters.Yes},
		{`{"$$ref":1}`, `{}`, []string{"$ref"}, filters.Unknown},
	} {
		got := compile(t, c.filter).MatchDoc(filters.NewDoc([]byte(c.doc), c.unavailable))
		require.Equal(t, c.want, got, "%s @> %s without %v", c.doc, c.filter, c.unavailable)
	}
}

func TestANilOrZeroFilterMatchesNothing(t *testing.T) {
	var none *filters.Filter
	require.Equal(t, filters.No, none.Match([]byte(`{}`)))
	require.Equal(t, filters.No, (&filters.Filter{}).Match([]byte(`{}`)))
	require.False(t, (&filters.Filter{}).IsAll())
}

func TestADoubledDollarStandsForALiteralOne(t *testing.T) {
	require.Equal(t, filters.Yes, compile(t, `{"$$ref":1}`).Match([]byte(`{"$ref":1}`)))
	require.Equal(t, filters.No, compile(t, `{"$$ref":1}`).Match([]byte(`{"$$ref":1}`)))
	require.Equal(t, filters.Yes, compile(t, `{"$$$ref":1}`).Match([]byte(`{"$$ref":1}`)))
	require.Equal(t, filters.Yes, compile(t, `{"$$":1}`).Match([]byte(`{"$":1}`)))
	require.Equal(t, filters.Yes, compile(t, `{"a$":"$x"}`).Match([]byte(`{"a$":"$x"}`)))
	require.Equal(t, filters.Yes, compile(t, `{"a":[{"\u0024\u0024b":1}]}`).Match([]byte(`{"a":[{"$b":1}]}`)))
}

func TestTheSyntaxCheckSeesEveryByteOfAString(t *testing.T) {
	all := compile(t, `{}`)
	for length := range 20 {
		for at := range length + 1 {
			for b := range 256 {
				text := strings.Repeat("x", at) + string([]byte{byte(b)}) + strings.Repeat("y", length-at)
				for _, doc := range []string{`{"` + text + `":1}`, `{"é":["` + text + `"]}`} {
					want := json.Valid([]byte(doc)) && utf8.ValidString(doc)
					require.Equal(t, verdict(want), all.Match([]byte(doc)), "%q", doc)
				}
			}
		}
	}
}
