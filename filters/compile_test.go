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

func TestCompileRefusesEveryOperatorAndSaysHowToMeanTheKey(t *testing.T) {
	for src, pointer := range map[string]string{
		`{"$gte":1}`:                   "/$gte",
		`{"$":1}`:                      "/$",
		`{"\u0024gt":1}`:               "/$gt",
		`{"a":{"b~":[1,{"$x/y":{}}]}}`: "/a/b~0/1/$x~1y",
	} {
		errs := mistakes(t, src)
		require.Len(t, errs, 1)
		require.Equal(t, filters.UnknownOperator, errs[0].Code)
		require.Equal(t, pointer, errs[0].Pointer)
		require.Contains(t, errs[0].Suggestion, `"$$`)
	}
}

func TestCompileListsEveryMistakeAtOnce(t *testing.T) {
	errs := mistakes(t, `{"$or":[{"$a":1e200000}],"b":"\u0000","b":{"$c":1},"`+strings.Repeat("k", 600)+`":[]}`)
	var got []string
	for _, e := range errs {
		got = append(got, string(e.Code)+" "+e.Pointer)
	}
	require.Equal(t, []string{
		"unknown_operator /$or",
		"unknown_operator /$or/0/$a",
		"bad_json /$or/0/$a",
		"bad_json /b",
		"bad_json /b",
		"unknown_operator /b/$c",
		"too_large ",
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
	_, err := filters.Compile([]byte(`{"$gte":1}`))
	var one *filters.Error
	require.ErrorAs(t, fmt.Errorf("subscription: %w", err), &one)
	require.Equal(t, `unknown_operator at /$gte: "$gte" is not an operator (for a key that is literally "$gte" write "$$gte")`, one.Error())
	text, err := json.Marshal(one)
	require.NoError(t, err)
	require.JSONEq(t, `{"code":"unknown_operator","pointer":"/$gte","message":"\"$gte\" is not an operator",
		"suggestion":"for a key that is literally \"$gte\" write \"$$gte\""}`, string(text))
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
	} {
		t.Run(name, func(t *testing.T) {
			compile(t, limit.make(limit.most))
			errs := mistakes(t, limit.make(limit.most+1))
			require.Len(t, errs, 1)
			require.Equal(t, filters.TooLarge, errs[0].Code)
		})
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
		`{}`:                               {` { } `},
		`{"a":1,"b":null}`:                 {`{"b":null,"a":1.0}`, `{ "\u0061" : 10e-1 , "b":null}`},
		`{"a":[null,1,2,"x",[],{}]}`:       {`{"a":["x",{},[],2,1,null]}`, `{"a":[1.0,1,2,{},{},[],"\u0078",null,2e0]}`},
		`{"a":[[1,2],[3]]}`:                {`{"a":[[3],[2,1],[1,2,2]]}`},
		`{"$$ref":"$x"}`:                   {`{"\u0024$ref":"\u0024x"}`},
		`{"n":1.5}`:                        {`{"n":1.50}`, `{"n":15e-1}`, `{"n":0.015E2}`},
		`{"n":0}`:                          {`{"n":-0}`, `{"n":0.00}`, `{"n":0e999999}`},
		`{"n":1000}`:                       {`{"n":1e3}`, `{"n":1000.0}`},
		`{"n":100000000000000000000}`:      {`{"n":1e20}`},
		`{"n":1e21}`:                       {`{"n":1000000000000000000000}`},
		`{"n":0.000001}`:                   {`{"n":1e-6}`},
		`{"n":-12e-8}`:                     {`{"n":-0.00000012}`},
		`{"n":12345678901234567890123456}`: {`{"n":1.2345678901234567890123456e25}`},
		`{"s":"é😀\"\\/\b\t\n\f\r\u000b\u0001"}`: {`{"s":"\u00e9\ud83d\ude00\u0022\u005c\/\u0008\u0009\u000a\u000C\u000d\u000B\u0001"}`},
	} {
		require.Equal(t, canonical, compile(t, canonical).String())
		for _, src := range others {
			require.Equal(t, canonical, compile(t, src).String(), src)
		}
	}
}

func TestKeysAreTheLiteralTopLevelKeysInOrder(t *testing.T) {
	require.Equal(t, []string{"$a", "a.b", "b"}, compile(t, `{"b":{"c":1},"\u0024$a":[],"a.b":null}`).Keys())
	require.Empty(t, compile(t, `{}`).Keys())
}

func TestOnlyTheEmptyObjectIsAll(t *testing.T) {
	require.True(t, compile(t, ` {} `).IsAll())
	require.False(t, compile(t, `{"a":{}}`).IsAll())
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
