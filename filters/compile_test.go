package filters_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

func TestCompileRefusesWhatJSONBRefuses(t *testing.T) {
	for _, src := range []string{
		``, ` `, `{`, `{"a":1}x`, `{"a":1,}`, `{a:1}`, `{"a":01}`, `{"a":"` + "\x01" + `"}`, "\ufeff{}", `{"a":"` + "\xc0\x80" + `"}`,
		`{"a":"\u0000"}`, `{"\u0000":1}`, `{"a":"\ud800"}`, `{"a":"\ude00\ud83d"}`, `{"a":["\ud83d\n"]}`, `{"\udc00":1}`,
		`{"a":1e131072}`, `{"a":10e131071}`, `{"a":-1e999999999999999999999}`, `{"a":1e-16384}`, `{"a":0.0e-99999}`, `{"a":0e1073741823}`,
		`{"a":0.00001e-16379}`, `{"a":[{"b":1e200000}]}`,
	} {
		require.Equal(t, filters.BadJSON, mistakes(t, src)[0].Code, "%q", src)
	}
	for _, src := range []string{
		`{"a":1e131071}`, `{"a":-9.9e131071}`, `{"a":0.001e131074}`, `{"a":1e-16383}`, `{"a":0e999999}`, `{"a":-0e-16383}`, `{"a":0.1e-16382}`,
		`{"a":"\ud83d\ude00\uffff"}`, " {\"a\"\n:\t[ ] } ",
	} {
		compile(t, src)
	}
}

func TestCompileRefusesADuplicateKeyThatJSONBWouldHide(t *testing.T) {
	for src, pointer := range map[string]string{
		`{"a":1,"a":1}`:               "/a",
		`{"a":1,"b":2,"\u0061":3}`:    "/a",
		`{"x":[{"k/1":1,"k/1":2}]}`:   "/x/0/k~11",
		`{"$$a":1,"\u0024\u0024a":2}`: "/$$a",
	} {
		errs := mistakes(t, src)
		require.Equal(t, filters.BadJSON, errs[0].Code)
		require.Equal(t, pointer, errs[0].Pointer)
	}
	compile(t, `{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}`)
}

func TestCompileRefusesARootThatIsNotAnObject(t *testing.T) {
	for src, what := range map[string]string{
		`[]`: "an array", `[{}]`: "an array", `null`: "null", `"a"`: "a string", ` 1 `: "a number", `true`: "a boolean", `false`: "a boolean",
	} {
		errs := mistakes(t, src)
		require.Len(t, errs, 1)
		require.Equal(t, filters.NotObject, errs[0].Code)
		require.Contains(t, errs[0].Message, what)
	}
}

func TestCompileRefusesWhatAnOperatorDoesNotMean(t *testing.T) {
	const literal, ops, paths = `write "$$`, `"insert", "update", "delete", "truncate", "read"`, `{"outside": ["column"]}`
	for _, c := range []struct{ src, code, pointer, suggestion string }{
		{`{"$":1}`, "unknown_operator", "/$", `for a key that is literally "$" write "$$"`},
		{`{"$gtee":1}`, "unknown_operator", "/$gtee", "did you mean $gte?"},
		{`{"\u0024gt":1}`, "bad_position", "/$gt", "column"},
		{`{"a":{"b~":[1,{"$x/y":{}}]}}`, "unknown_operator", "/a/b~0/1/$x~1y", literal},
		{`{"a":{"$GTE":1}}`, "unknown_operator", "/a/$GTE", "did you mean $gte?"},
		{`{"a":{"$tle":1}}`, "unknown_operator", "/a/$tle", "did you mean $lte?"},
		{`{"a":{"$exits":true}}`, "unknown_operator", "/a/$exits", "did you mean $exists?"},
		{`{"a":{"$startWith":"x"}}`, "unknown_operator", "/a/$startWith", "did you mean $startsWith?"},
		{`{"a":{"$contain":"x"}}`, "unknown_operator", "/a/$contain", "did you mean $contains?"},
		{`{"a":{"$starts":"x"}}`, "unknown_operator", "/a/$starts", "did you mean $startsWith?"},
		{`{"a":{"$regex":"x"}}`, "unknown_operator", "/a/$regex", literal},
		{`{"a":{"$ref":"x"}}`, "unknown_operator", "/a/$ref", literal},
		{`{"$xor":[{"a":1}]}`, "unknown_operator", "/$xor", "did you mean $or?"},
		{`{"$not":{"a":{"$gtee":1}}}`, "unknown_operator", "/$not/a/$gtee", "did you mean $gte?"},
		{`{"a":{"$eq":{"$x":1}}}`, "unknown_operator", "/a/$eq/$x", literal},
		{`{"$changed":{"$outside":["a"]}}`, "unknown_operator", "/$changed/$outside", literal},

		{`{"a":{"$gt":1,"b":2}}`, "mixed_object", "/a/$gt", literal},
		{`{"a":{"b":2,"$from":1}}`, "mixed_object", "/a/$from", literal},
		{`{"a":{"$$b":2,"$exists":true}}`, "mixed_object", "/a/$exists", literal},
		{`{"a":[{"b":2,"$eq":1}]}`, "mixed_object", "/a/0/$eq", literal},
		{`{"a":{"$not":{"b":2,"$eq":1}}}`, "mixed_object", "/a/$not/$eq", literal},

		{`{"$eq":{}}`, "bad_position", "/$eq", `{"column": {"$eq": …}}`},
		{`{"$from":1}`, "bad_position", "/$from", "column"},
		{`{"$startsWith":"x"}`, "bad_position", "/$startsWith", `{"column": {"$startsWith": …}}`},
		{`{"$gt":1,"b":2}`, "bad_position", "/$gt", "column"},
		{`{"$or":[{"a":1},{"$and":[{"$not":{"$gt":1}}]}]}`, "bad_position", "/$or/1/$and/0/$not/$gt", "column"},
		{`{"$before":{"$gt":1}}`, "bad_position", "/$before/$gt", "column"},
		{`{"a":{"$op":"insert"}}`, "bad_position", "/a/$op", "top level"},
		{`{"a":{"$not":{"$changed":["b"]}}}`, "bad_position", "/a/$not/$changed", "top level"},
		{`{"a":{"$before":{"b":1}}}`, "bad_position", "/a/$before", "top level"},
		{`{"a":[{"$op":"insert"}]}`, "bad_position", "/a/0/$op", "as a whole"},
		{`{"a":[{"b":{"$to":1}}]}`, "bad_position", "/a/0/b/$to", "as a whole"},
		{`{"$before":{"$op":"insert"}}`, "bad_position", "/$before/$op", "out of $before"},
		{`{"$before":{"$not":{"$before":{}}}}`, "bad_position", "/$before/$not/$before", "out of $before"},
		{`{"$before":{"a":{"$to":1}}}`, "bad_position", "/$before/a/$to", "out of $before"},
		{`{"$before":{"a":[{"b":{"$to":1}}]}}`, "bad_position", "/$before/a/0/b/$to", "out of $before"},

		{`{"a":{"$gt":null}}`, "bad_operand", "/a/$gt", ""},
		{`{"a":{"$gte":true}}`, "bad_operand", "/a/$gte", ""},
		{`{"a":{"$lt":[1]}}`, "bad_operand", "/a/$lt", ""},
		{`{"a":{"$lte":{}}}`, "bad_operand", "/a/$lte", ""},
		{`{"a":{"$in":[]}}`, "bad_operand", "/a/$in", ""},
		{`{"a":{"$in":1}}`, "bad_operand", "/a/$in", ""},
		{`{"a":{"$nin":[1,[2]]}}`, "bad_operand", "/a/$nin/1", `{"$or": [{"$eq": …}, …]}`},
		{`{"a":{"$in":[{"b":2}]}}`, "bad_operand", "/a/$in/0", `{"$or": [{"$eq": …}, …]}`},
		{`{"a":{"$prefix":""}}`, "bad_operand", "/a/$prefix", ""},
		{`{"a":{"$endsWith":1}}`, "bad_operand", "/a/$endsWith", ""},
		{`{"a":{"$contains":["x"]}}`, "bad_operand", "/a/$contains", ""},
		{`{"a":{"$exists":1}}`, "bad_operand", "/a/$exists", ""},
		{`{"a":{"$exist":null}}`, "bad_operand", "/a/$exist", ""},
		{`{"a":{"$ne":{"b":{"$gt":1}}}}`, "bad_operand", "/a/$ne/b/$gt", literal},
		{`{"a":{"$from":[{"$in":[1]}]}}`, "bad_operand", "/a/$from/0/$in", literal},
		{`{"a":{"$to":{"$not":{}}}}`, "bad_operand", "/a/$to/$not", literal},
		{`{"$and":[]}`, "bad_operand", "/$and", ""},
		{`{"$or":{"a":1}}`, "bad_operand", "/$or", ""},
		{`{"$or":[{"a":1},2]}`, "bad_operand", "/$or/1", `{"column": …}`},
		{`{"a":{"$and":[1]}}`, "bad_operand", "/a/$and/0", `{"$eq": …}`},
		{`{"a":{"$not":1}}`, "bad_operand", "/a/$not", `{"$eq": …}`},
		{`{"$not":[{"a":1}]}`, "bad_operand", "/$not", `{"column": …}`},
		{`{"$before":null}`, "bad_operand", "/$before", `{"column": …}`},
		{`{"$op":"upsert"}`, "bad_operand", "/$op", ops},
		{`{"$op":"unknown"}`, "bad_operand", "/$op", ops},
		{`{"$op":[]}`, "bad_operand", "/$op", ""},
		{`{"$op":["insert",1]}`, "bad_operand", "/$op/1", ops},
		{`{"$op":{}}`, "bad_operand", "/$op", ops},
		{`{"$changed":"a"}`, "bad_operand", "/$changed", paths},
		{`{"$changed":[]}`, "bad_operand", "/$changed", ""},
		{`{"$changed":[1]}`, "bad_operand", "/$changed/0", ""},
		{`{"$changed":["a",""]}`, "bad_operand", "/$changed/1", "JSON Pointer"},
		{`{"$changed":["a..b"]}`, "bad_operand", "/$changed/0", "JSON Pointer"},
		{`{"$changed":["/a~2b"]}`, "bad_operand", "/$changed/0", "JSON Pointer"},
		{`{"$changed":{}}`, "bad_operand", "/$changed", paths},
		{`{"$changed":{"outside":"a"}}`, "bad_operand", "/$changed/outside", paths},
		{`{"$changed":{"outside":["a"],"inside":["b"]}}`, "bad_operand", "/$changed/inside", paths},

		{`{"a":{"$ne":1,"$neq":1}}`, "bad_json", "/a/$neq", ""},
		{`{"a":{"$startsWith":"x","$prefix":"x"}}`, "bad_json", "/a/$prefix", ""},
		{`{"a":{"$gt":1,"$gt":1}}`, "bad_json", "/a/$gt", ""},
		{`{"a":{"$in":[1e200000]}}`, "bad_json", "/a/$in/0", ""},
		{`{"a":{"$eq":{"b":1,"b":1}}}`, "bad_json", "/a/$eq/b", ""},
		{`{"$changed":{"outside":["a"],"outside":["a"]}}`, "bad_json", "/$changed/outside", ""},
		{`{"$changed":["a","\u0000"]}`, "bad_json", "/$changed/1", ""},
	} {
		errs := mistakes(t, c.src)
		require.Len(t, errs, 1, "%s: %v", c.src, errs)
		require.Equal(t, c.code+" "+c.pointer, string(errs[0].Code)+" "+errs[0].Pointer, c.src)
		require.Contains(t, errs[0].Suggestion, c.suggestion, c.src)
		require.Equal(t, c.suggestion == "", errs[0].Suggestion == "", c.src)
	}
}

func TestCompileAcceptsOperatorsWhereverTheyMeanSomething(t *testing.T) {
	for _, src := range []string{
		`{"a":{"$eq":{"$$b":[{"c":null}]}}}`, `{"a":{"$ne":[]}}`, `{"a":{"$gt":1,"$lt":"x"}}`, `{"a":{"$in":[null,true,1,"x"]}}`,
		`{"a":{"$exists":false}}`, `{"a":{"$not":{"$in":[1]}}}`, `{"a":{"$or":[{"$lt":1},{"b":2}],"c":3}}`, `{"a":{"$gt":1,"$and":[{"b":1}]}}`,
		`{"a":[{"$prefix":"x"},[{"$not":{}}],{"b":{"$exists":true}}]}`, `{"a":[{"$or":[{"$eq":1},{}]}]}`,
		`{"$or":[{"$op":"insert"},{"$changed":["a"]},{"$not":{"$before":{"a":{"$gt":1}}}}]}`, `{"$op":["insert","insert"],"a":1}`,
		`{"$changed":["a.b.0","/","/a~1b/~0","$c"]}`, `{"$changed":{"outside":[]}}`, `{"$before":{}}`, `{"$before":{"$or":[{"a":[{"$gt":1}]}]}}`,
		`{"a":{"b":{"$from":{"c":[1]},"$to":null,"$ne":2}}}`, `{"a":{"$not":{"$from":1}}}`, `{"$not":{"a":{"$or":[{"$to":1},{"$to":2}]}}}`,
	} {
		compile(t, src)
	}
}

func TestAFilterOnTheOldRowHasNoChangeConditions(t *testing.T) {
	for src, pointer := range map[string]string{
		`{"$op":"insert"}`: "/$op", `{"$or":[{"$changed":["a"]}]}`: "/$or/0/$changed", `{"$before":{}}`: "/$before", `{"a":{"b":{"$to":1}}}`: "/a/b/$to",
	} {
		f, err := filters.CompileOld([]byte(src))
		require.Nil(t, f)
		var errs filters.Errors
		require.ErrorAs(t, err, &errs)
		require.Len(t, errs, 1)
		require.Equal(t, filters.BadPosition, errs[0].Code)
		require.Equal(t, pointer, errs[0].Pointer)
		require.Contains(t, errs[0].Suggestion, "new row")
	}
	f, err := filters.CompileOld([]byte(`{"a":{"$gt":1},"$not":{"b":[{"$exists":true}]}}`))
	require.NoError(t, err)
	require.False(t, f.NeedsOld(), "it is given the old row as its document")
	require.Equal(t, filters.Yes, f.Match([]byte(`{"a":2,"b":[]}`)))
}

func TestCompileListsEveryMistakeAtOnce(t *testing.T) {
	errs := mistakes(t, `{"$xor":[{"$a":1e200000,"$op":"insert"}],"b":"\u0000","b":{"$c":1},"$or":[1,{"n":{"x":1,"$gt":null,"$in":[[{"$gt":1}],{"$d":1}]}}],
		"$before":{"$gt":{"$e":"\ud800"},"$to":{"$eq":1}},"`+strings.Repeat("k", 600)+`":[{"$changed":[""]}]}`)
	var got []string
	for _, e := range errs {
		got = append(got, string(e.Code)+" "+strings.ReplaceAll(e.Pointer, strings.Repeat("k", 600), "k"))
	}
	require.Equal(t, []string{
		"unknown_operator /$xor",
		"unknown_operator /$xor/0/$a",
		"bad_json /$xor/0/$a",
		"bad_json /b",
		"bad_json /b",
		"unknown_operator /b/$c",
		"bad_operand /$or/0",
		"mixed_object /$or/1/n/$gt",
		"bad_operand /$or/1/n/$gt",
		"mixed_object /$or/1/n/$in",
		"bad_operand /$or/1/n/$in/0",
		"bad_operand /$or/1/n/$in/1",
		"unknown_operator /$or/1/n/$in/1/$d",
		"bad_position /$before/$gt",
		"bad_operand /$before/$gt",
		"unknown_operator /$before/$gt/$e",
		"bad_json /$before/$gt/$e",
		"bad_position /$before/$to",
		"bad_operand /$before/$to/$eq",
		"too_large ",
		"bad_position /k/0/$changed",
		"bad_operand /k/0/$changed/0",
	}, got)
	for _, e := range errs {
		require.Contains(t, errs.Error(), e.Message)
	}
}

func TestCompileSaysAtMostSoMuchAboutOneFilter(t *testing.T) {
	errs := mistakes(t, "{"+strings.TrimSuffix(strings.Repeat(`"$":1,`, 2_000), ",")+"}")
	require.Len(t, errs, 64)
}

func TestErrorsCanBeTakenApart(t *testing.T) {
	_, err := filters.Compile([]byte(`{"a":{"$ref":1}}`))
	var one *filters.Error
	require.ErrorAs(t, fmt.Errorf("subscription: %w", err), &one)
	require.Equal(t, `unknown_operator at /a/$ref: "$ref" is not an operator (for a key that is literally "$ref" write "$$ref")`, one.Error())
	text, err := json.Marshal(one)
	require.NoError(t, err)
	require.JSONEq(t, `{"code":"unknown_operator","pointer":"/a/$ref","message":"\"$ref\" is not an operator",
		"suggestion":"for a key that is literally \"$ref\" write \"$$ref\""}`, string(text))
}

func TestEachLimitAcceptsItsValueAndRefusesTheNext(t *testing.T) {
	nested := func(levels int) string {
		return `{"a":` + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + `}`
	}
	list := func(n int) string {
		values := make([]string, n)
		for i := range values {
			values[i] = fmt.Sprint(i)
		}
		return `{"a":[` + strings.Join(values, ",") + `]}`
	}
	str := func(bytes int) string { return `{"a":"` + strings.Repeat("x", bytes-8) + `"}` }
	in := func(n int) string { return strings.Replace(list(n), "[", `{"$in":[`, 1) + "}" }
	changed := func(n int) string { return `{"$changed":["a` + strings.Repeat(`","a`, n-1) + `"]}` }
	segments := func(n int) string { return `{"$changed":{"outside":["a` + strings.Repeat(`.a`, n-1) + `"]}}` }
	segment := func(n int) string { return `{"$changed":["a.` + strings.Repeat(`k`, n) + `"]}` }
	either := func(n int) string { return `{"$or":[{"a":1}` + strings.Repeat(`,{"a":1}`, n-1) + `]}` }
	key := func(bytes int) string {
		return `{"` + strings.Repeat("é", bytes/2) + strings.Repeat("x", bytes%2) + `":1}`
	}
	for name, limit := range map[string]struct {
		make func(int) string
		most int
	}{
		"text":   {str, filters.MaxText},
		"depth":  {nested, filters.MaxDepth},
		"leaves": {list, filters.MaxLeaves},
		"key":    {key, filters.MaxKey},

		"values of $in":       {in, filters.MaxList},
		"paths of $changed":   {changed, filters.MaxList},
		"segments of a path":  {segments, filters.MaxSegments},
		"bytes of a segment":  {segment, filters.MaxKey},
		"alternatives of $or": {either, filters.MaxAlternatives},
	} {
		t.Run(name, func(t *testing.T) {
			compile(t, limit.make(limit.most))
			errs := mistakes(t, limit.make(limit.most+1))
			require.Len(t, errs, 1)
			require.Equal(t, filters.TooLarge, errs[0].Code)
		})
	}
}

func TestAlternativesAreCountedAsIfEveryOrWereMultipliedOut(t *testing.T) {
	or := func(part string, n int) string {
		return `"$or":[` + strings.TrimSuffix(strings.Repeat(part+",", n), ",") + `]`
	}
	for src, good := range map[string]bool{
		`{` + or(`{"a":1}`, 8) + `,"b":{` + or(`{"$gt":1}`, 8) + `}}`:                                     true,
		`{` + or(`{"a":1}`, 8) + `,"b":{` + or(`{"$gt":1}`, 8) + `},"$and":[{` + or(`{"c":1}`, 2) + `}]}`: false,
		`{` + or(`{`+or(`{"a":1}`, 8)+`}`, 8) + `}`:                                                       true,
		`{` + or(`{`+or(`{"a":1}`, 13)+`}`, 5) + `}`:                                                      false,
		`{"a":[{` + or(`{"$gt":1}`, 9) + `},[{` + or(`{}`, 8) + `}]]}`:                                    false,
		`{"$before":{` + or(`{"a":1}`, 65) + `}}`:                                                         false,
		`{"$not":{` + or(`{"a":1}`, 65) + `}}`:                                                            true,
		`{"a":{"$in":[` + strings.Repeat(`0,`, 80) + `1]}}`:                                               true,
	} {
		if good {
			compile(t, src)
			continue
		}
		errs := mistakes(t, src)
		require.Len(t, errs, 1)
		require.Equal(t, filters.TooLarge, errs[0].Code)
	}
}

func TestEmptyContainersCountAsValues(t *testing.T) {
	errs := mistakes(t, `{"a":[`+strings.Repeat("[],{},", 128)+`1]}`)
	require.Equal(t, filters.TooLarge, errs[0].Code)
}

func TestCompileRefusesAFilterThatOnlyItsNotationKeepsSmall(t *testing.T) {
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, `,"%s%03d":1e20`, strings.Repeat("k", 70), i)
	}
	src := "{" + b.String()[1:] + "}"
	require.LessOrEqual(t, len(src), filters.MaxText)
	require.Equal(t, filters.TooLarge, mistakes(t, src)[0].Code)
}

func TestHostileFilterTextIsRefusedAtOnce(t *testing.T) {
	for _, src := range []string{
		strings.Repeat("[", 12<<20),
		strings.Repeat("[", filters.MaxText),
		strings.Repeat(`{"a":`, filters.MaxText/5),
		`{"a":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		require.Equal(t, filters.TooLarge, mistakes(t, src)[0].Code)
	}
}

func TestEqualFiltersHaveTheSameCanonicalText(t *testing.T) {
	for canonical, others := range map[string][]string{
		`{}`:                                  {` { } `},
		`{"a":1,"b":null}`:                    {`{"b":null,"a":1.0}`, `{ "\u0061" : 10e-1 , "b":null}`},
		`{"a":[null,1,2,"x",[],{}]}`:          {`{"a":["x",{},[],2,1,null]}`, `{"a":[1.0,1,2,{},{},[],"\u0078",null,2e0]}`},
		`{"a":[[1,2],[3]]}`:                   {`{"a":[[3],[2,1],[1,2,2]]}`},
		`{"$$ref":"$x"}`:                      {`{"\u0024$ref":"\u0024x"}`},
		`{"n":1.5}`:                           {`{"n":1.50}`, `{"n":15e-1}`, `{"n":0.015E2}`},
		`{"n":0}`:                             {`{"n":-0}`, `{"n":0.00}`, `{"n":0e999999}`},
		`{"n":1000}`:                          {`{"n":1e3}`, `{"n":1000.0}`},
		`{"n":100000000000000000000}`:         {`{"n":1e20}`},
		`{"n":1e21}`:                          {`{"n":1000000000000000000000}`},
		`{"n":0.000001}`:                      {`{"n":1e-6}`},
		`{"n":-12e-8}`:                        {`{"n":-0.00000012}`},
		`{"n":12345678901234567890123456}`:    {`{"n":1.2345678901234567890123456e25}`},
		`{"a":{"$gt":1,"$lt":5}}`:             {`{"a":{"$lt":5.0,"$gt":1}}`},
		`{"a":{"$ne":1}}`:                     {`{"a":{"$neq":1e0}}`},
		`{"a":{"$exists":true}}`:              {`{"a":{"$exist":true}}`},
		`{"a":{"$prefix":"x","$suffix":"y"}}`: {`{"a":{"$endsWith":"y","$startsWith":"\u0078"}}`},
		`{"a":{"$in":[null,false,1,"1"]}}`:    {`{"a":{"$in":["1",1,1.0,false,null]}}`},
		`{"a":{"$eq":[2,1,2,{"b":1,"c":2}]}}`: {`{"a":{"$eq":[2.0,1,2,{"c":2,"b":1}]}}`},
		`{"a":{"$from":[1,2],"$to":{"b":1}}}`: {`{"a":{"$to":{"b":1},"$from":[2,1,1]}}`},
		`{"a":[1,{"$gt":2},{"b":1}]}`:         {`{"a":[{"b":1},{"$gt":2.0},1,{"$gt":2}]}`},
		`{"$and":[{"a":1},{"b":1}],"$or":[{"a":1},{"b":1}]}`:           {`{"$or":[{"b":1},{"a":1},{"b":1}],"$and":[{"b":1},{"a":1}]}`},
		`{"$not":{"$or":[{"a":1}],"b":1},"$$a":1}`:                     {`{"$$a":1,"$not":{"b":1,"$or":[{"a":1},{"a":1.0}]}}`},
		`{"$op":["insert"]}`:                                           {`{"$op":"insert"}`, `{"$op":["insert","insert"]}`},
		`{"$op":["insert","update","delete","truncate","read"],"a":1}`: {`{"a":1,"$op":["read","truncate","delete","update","insert"]}`},
		`{"$changed":["/","/a.b/c","/~1a","a.b","b"]}`:                 {`{"$changed":["b","/a/b","/","a.b","/b","/a.b/c","/~1a"]}`},
		`{"$changed":{"outside":["a.~b","b"]}}`:                        {`{"$changed":{"outside":["b","/a/~0b","b"]}}`},
		`{"$before":{"a":{"$ne":1}}}`:                                  {`{"$before":{"a":{"$neq":1}}}`},
		`{"s":"é😀\"\\/\b\t\n\f\r\u000b\u0001"}`:                        {`{"s":"\u00e9\ud83d\ude00\u0022\u005c\/\u0008\u0009\u000a\u000C\u000d\u000B\u0001"}`},
	} {
		require.Equal(t, canonical, compile(t, canonical).String())
		for _, src := range others {
			require.Equal(t, canonical, compile(t, src).String(), src)
		}
	}
}

func TestKeysAreTheTopLevelKeysOfEitherRowInOrder(t *testing.T) {
	for src, want := range map[string][]string{
		`{}`:                                     nil,
		`{"b":{"c":1},"\u0024$a":[],"a.b":null}`: {"$a", "a.b", "b"},
		`{"b":{"$gt":1},"$or":[{"a":[{"x":1}]},{"$not":{"c":{}}}]}`:          {"a", "b", "c"},
		`{"$changed":["c.x","/a.b/0","$e"],"$before":{"b":1},"d":{"$to":1}}`: {"$e", "a.b", "b", "c", "d"},
		`{"$changed":{"outside":["b.c"]},"$op":"update"}`:                    {"b"},
	} {
		require.Equal(t, want, compile(t, src).Keys(), src)
	}
}

func TestNeedsOldSaysWhetherTheRowBeforeIsRead(t *testing.T) {
	for src, want := range map[string]bool{
		`{}`: false, `{"a":1}`: false, `{"$op":"update","a":{"$not":{"$gt":1}}}`: false,
		`{"$changed":["a"]}`: true, `{"$changed":{"outside":[]}}`: true, `{"$before":{}}`: true, `{"$not":{"$before":{"a":1}}}`: true,
		`{"a":{"$from":1}}`: true, `{"$or":[{"b":1},{"a":{"b":{"$to":1}}}]}`: true,
	} {
		require.Equal(t, want, compile(t, src).NeedsOld(), src)
	}
}

func TestAllIsWhatAsksForNothing(t *testing.T) {
	for src, want := range map[string]bool{
		` {} `: true, `{"$and":[{}]}`: true, `{"a":{}}`: false, `{"$not":{}}`: false, `{"$before":{}}`: false, `{"$op":"insert"}`: false,
	} {
		require.Equal(t, want, compile(t, src).IsAll(), src)
	}
	var zero filters.Filter
	require.False(t, zero.IsAll())
}

func TestAFilterKeepsNothingOfItsSource(t *testing.T) {
	src := []byte(`{"name":"value","list":["one"]}`)
	f, err := filters.Compile(src)
	require.NoError(t, err)
	for i := range src {
		src[i] = 'X'
	}
	require.Equal(t, filters.Yes, f.Match([]byte(`{"name":"value","list":["one"]}`)))
}
