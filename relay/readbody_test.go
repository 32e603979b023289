package relay_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
)

func TestReadBodyFindsTheTopLevelParts(t *testing.T) {
	for body, want := range map[string]relay.Event{
		`{"data":{"a":1}}`: {Data: []byte(`{"a":1}`)},
		` { "x" : [1,{"data":2},"}"] , "data" : { "data" : "\"}" } , "y":1 } `: {Data: []byte(`{ "data" : "\"}" }`)},
		`{"a":"\\","data":12}`:                                            {Data: []byte(`12`)},
		`{"a":{},"b":[],"data":null }`:                                    {Data: []byte(`null`)},
		`{"data":"x","z":{"data":"no"}}`:                                  {Data: []byte(`"x"`)},
		`{"data":[1,[2,[3]]],"u":true}`:                                   {Data: []byte(`[1,[2,[3]]]`)},
		`{"n":-1.5e3,"data":{}}`:                                          {Data: []byte(`{}`)},
		`{"data":{},"source":{"op":"update"}}`:                            {Data: []byte(`{}`), Op: relay.OpUpdate},
		`{"source" : {"key": {"op": "delete"}, "op" : "read"},"data":{}}`: {Data: []byte(`{}`), Op: relay.OpRead},
		`{"source":{"op":"UPDATE"},"data":{}}`:                            {Data: []byte(`{}`)},
		`{"source":{"op":["insert"]},"data":{}}`:                          {Data: []byte(`{}`)},
		`{"source":"insert","data":{}}`:                                   {Data: []byte(`{}`)},
		`{"data":{},"previous":{"a":[{}]},"op":"insert"}`:                 {Data: []byte(`{}`), Previous: []byte(`{"a":[{}]}`)},
		`{"data":{},"unavailable":["a","\u0062"]}`:                        {Data: []byte(`{}`), Unavailable: []string{"a", "b"}},
		`{"previous_unavailable":["a"],"unavailable":["b"],"data":{}}`:    {Data: []byte(`{}`), Unavailable: []string{"b"}, PreviousUnavailable: []string{"a"}},
		`{"data":{},"oversize":true}`:                                     {Data: []byte(`{}`), Unlisted: true},
		`{"data":{},"oversize":false}`:                                    {Data: []byte(`{}`)},
		`{"data":{},"oversize":true,"unavailable":["a"]}`:                 {Data: []byte(`{}`), Unavailable: []string{"a"}},
	} {
		var got relay.Event
		require.NoError(t, got.ReadBody([]byte(body)), body)
		want.Body = []byte(body)
		require.Equal(t, want, got, body)
	}
}

func TestReadBodyReadsWhatIsNestedAsDeeplyAsAJsonbMayBe(t *testing.T) {
	nested := func(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }
	for _, levels := range []int{9_990, 10_500, 15_000, filters.MaxDocDepth - 2} {
		data := `{"a":` + nested(levels) + `,"b":1}`
		var got relay.Event
		require.NoError(t, got.ReadBody([]byte(`{"source":{"op":"insert"},"data":`+data+`}`)), "%d levels", levels)
		require.Equal(t, data, string(got.Data))
	}
	for _, body := range []string{
		`{"data":{"a":` + nested(10_500) + `}`, `{"data":{"a":` + nested(10_500) + `}}}`, `{"data":{"a":` + nested(10_500) + `}} {}`,
		`{"data":{"a":` + nested(10_500) + `,}}`, `{"data":{"a":` + strings.Repeat("[", 10_500) + `}}`,
	} {
		require.Error(t, new(relay.Event).ReadBody([]byte(body)))
	}
}

func TestReadBodyForgetsAnEarlierBody(t *testing.T) {
	e := relay.Event{ID: "evt_1"}
	require.NoError(t, e.ReadBody([]byte(`{"source":{"op":"update"},"data":{},"previous":{},"unavailable":["a"],"previous_unavailable":["a"]}`)))
	body := []byte(`{"data":{"a":1}}`)
	require.NoError(t, e.ReadBody(body))
	require.Equal(t, relay.Event{ID: "evt_1", Body: body, Data: []byte(`{"a":1}`)}, e)
}

func TestReadBodyRefusesWhatIsNoEvent(t *testing.T) {
	for _, body := range []string{
		"", "hello", "[]", "12", "{", `{"data"}`, `{}`, `{"a":1}`, `{"data":{},"previous_unavailable":{}}`,
		`{"data":{},"unavailable":"x"}`, `{"data":{}}x`, strings.Repeat("[", 20_000),
	} {
		require.Error(t, new(relay.Event).ReadBody([]byte(body)), "%.20q", body)
		_, err := relay.FilterEvent([]byte(body))
		require.Error(t, err, "%.20q", body)
	}
}

func FuzzReadBodyGivesPartsThatAreJSONOrAnError(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"data":2},"}\""],"data":{"data":"\"}"},"unavailable":["x"]}`))
	f.Add([]byte(`{"source":{"op":"update","key":{}},"data":{"a":1},"previous":{"a":2},"previous_unavailable":["x"],"oversize":true}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var e relay.Event
		if e.ReadBody(body) != nil {
			return
		}
		for _, part := range [][]byte{e.Data, e.Previous} {
			if part != nil && !json.Valid(part) {
				t.Fatalf("%q gives %q", body, part)
			}
		}
		filter, err := filters.Compile([]byte(`{"a":1}`))
		if err != nil {
			t.Fatal(err)
		}
		event := e.ForFilters()
		filter.MatchEvent(&event)
		e.Hides(filter)
	})
}

func TestOperationsHaveTheSameNamesForFilters(t *testing.T) {
	for op := range relay.OpRead + 2 {
		require.Equal(t, op.String(), filters.Op(op).String())
	}
}
