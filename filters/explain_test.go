package filters_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

// tree writes an explanation with a line for each condition.
func tree(e filters.Explanation) string {
	var b strings.Builder
	var write func(filters.Explanation, string)
	write = func(e filters.Explanation, indent string) {
		b.WriteString(indent + e.Verdict.String() + ": " + e.Text)
		if e.Why != "" {
			b.WriteString(": " + e.Why)
		}
		b.WriteString("\n")
		for _, part := range e.Parts {
			write(part, indent+"\t")
		}
	}
	write(e, "\t\t\t\t")
	return strings.TrimSpace(b.String())
}

func TestExplainSaysOfEachConditionWhatWasFound(t *testing.T) {
	for _, c := range []struct{ filter, event, want string }{
		{`{}`, `{"data":{}}`, `yes: {}: it asks for nothing`},
		{`{}`, `{"data":[]}`, `no: {}: the row is not a JSON object`},
		{`{"a":1,"b":2}`, `{}`, `no: all of: the row is not a JSON object`},
		{`{"status":"paid"}`, `{"data":{"status":"paid"}}`, `yes: status $eq "paid": is "paid"`},
		{`{"status":"paid"}`, `{"data":{}}`, `no: status $eq "paid": is missing`},
		{`{"status":"paid"}`, `{"data":{},"unavailable":["status"]}`, `unknown: status $eq "paid": was not sent`},
		{`{"a.b":{"$gt":1,"$lt":3}}`, `{"data":{"a.b":"2"}}`, `
			no: all of
				no: /a.b $gt 1: is a string, not a number
				no: /a.b $lt 3: is a string, not a number`},
		{
			`{"a":{"b":{"$eq":[1]},"c":{"$in":[1,2]},"d":{"$nin":["x"]},"e":{"$exists":false},"f":{"$prefix":"x"}}}`,
			`{"data":{"a":{"b":[1,2],"c":3,"d":{"y":1},"e":null,"f":"xy"}}}`, `
			no: all of
				no: a.b $eq [1]: is [1,2]
				no: a.c $in [1,2]: is 3
				no: a.d $nin ["x"]: is an object
				no: a.e $exists false: is null
				yes: a.f $prefix "x": is "xy"`,
		},
		{`{"a":{"b":{"$exists":false}}}`, `{"data":{}}`, `
			no: all of
				yes: a.b $exists false: is missing
				no: a is an object: is missing`},
		{`{"$or":[{"a":1,"b":1},{"c":{"$not":{"$ne":1}}}],"$and":[{"d":2}]}`, `{"data":{"a":1,"c":1,"d":3}}`, `
			no: all of
				no: d $eq 2: is 3
				yes: any of
					no: all of
						yes: a $eq 1: is 1
						no: b $eq 1: is missing
					yes: not
						no: c $ne 1: is 1`},
		{`{"$not":{"a":{}}}`, `{"data":{"a":1}}`, `
			yes: not
				no: a is an object: is a number`},
		{`{"tags":[2,{"$gt":5}],"items":[{"sku":"A"}],"x":[1]}`, `{"data":{"tags":[1,2,3],"items":[{"sku":"B"}],"x":{}}}`, `
			no: all of
				no: items holds [{"sku":"A"}]: is an array of 1
				no: tags holds [2,{"$gt":5}]: is an array of 3
					yes: tags holds [2]: is an array of 3
					no: tags holds [{"$gt":5}]: is an array of 3
				no: x holds [1]: is an object, not an array`},
		{`{"s":{"$from":"a","$to":"b"}}`, `{"op":"update","data":{"s":"b"},"before":{"s":"c"}}`, `no: s $from "a" $to "b": was "c", is "b"`},
		{`{"s":{"$to":"b"}}`, `{"op":"update","data":{"s":"b"},"before":{"s":"b"}}`, `no: s $to "b": is "b" as before`},
		{`{"s":{"$to":"b"}}`, `{"op":"insert","data":{"s":"b"}}`, `yes: s $to "b": was missing, is "b"`},
		{`{"s":{"$to":"b"}}`, `{"op":"delete","data":{"s":"b"}}`, `no: s $to "b": the row was deleted`},
		{`{"s":{"$from":"a"}}`, `{"op":"update","data":{"s":"b"}}`, `unknown: s $from "a": the row before was not sent, is "b"`},
		{
			`{"s":{"$from":"a"}}`, `{"op":"update","data":{"s":"b"},"before":{},"unavailable_before":["s"]}`,
			`unknown: s $from "a": its value before was not sent, is "b"`,
		},
		{`{"$changed":["v"]}`, `{"op":"update","data":{},"before":{"v":1},"unavailable":["v"]}`, `no: $changed ["v"]: did not change`},
		{`{"$changed":["v"]}`, `{"op":"insert","data":{},"unavailable":["v"]}`, `yes: $changed ["v"]: was missing, was not sent`},
		{`{"$changed":["a.b"]}`, `{"data":{"a":1}}`, `unknown: $changed ["a.b"]: what happened to the row is not known`},
		{`{"$changed":["a","b","l.0"],"$op":"update"}`, `{"op":"update","data":{"a":1,"b":2,"l":[1]},"before":{"a":1.0,"b":1,"l":[1,2]}}`, `
			yes: all of
				yes: $changed ["a","b","l.0"]
					no: a: is 1 as before
					yes: b: was 1, is 2
					no: l.0: is 1 as before
				yes: $op ["update"]: is update`},
		{`{"$changed":["a"],"$op":["update","insert"]}`, `{"op":"truncate"}`, `
			no: all of
				no: $changed ["a"]: the table was emptied
				no: $op ["insert","update"]: is truncate`},
		{
			`{"$changed":{"outside":["u"]}}`, `{"op":"update","data":{"u":2,"x":1},"before":{"u":1,"x":1}}`,
			`no: $changed {"outside":["u"]}: nothing else differs`,
		},
		{
			`{"$changed":{"outside":["u"]}}`, `{"op":"update","data":{"u":2,"x":2},"before":{"u":1,"x":1}}`,
			`yes: $changed {"outside":["u"]}: something else differs`,
		},
		{
			`{"$changed":{"outside":[]}}`, `{"op":"update","data":{"u":2},"before":{"u":2},"unavailable_before":["x"]}`,
			`unknown: $changed {"outside":[]}: not everything else was sent`,
		},
		{`{"$before":{"a":1,"b":[2]},"a":2}`, `{"op":"update","data":{"a":2},"before":{"a":3,"b":[]}}`, `
			no: all of
				no: $before
					no: a $eq 1: was 3
					no: b holds [2]: was an array of 0
				yes: a $eq 2: is 2`},
		{`{"$before":{"a":1}}`, `{"op":"insert","data":{"a":1}}`, `
			no: $before: there was no row before
				no: a $eq 1: was missing`},
		{`{"$before":{"a":1}}`, `{"op":"delete","data":{"a":1}}`, `
			yes: $before
				yes: a $eq 1: was 1`},
	} {
		f, e := compile(t, c.filter), event(t, []byte(c.event))
		got := f.Explain(e)
		want := strings.ReplaceAll(strings.TrimSpace(c.want), "\n\t\t\t", "\n\t\t\t\t")
		require.Equal(t, want, tree(got), "%s\n%s", c.filter, c.event)
		require.Equal(t, f.MatchEvent(e), got.Verdict)
		requireConsistent(t, got)
	}
}

// requireConsistent checks that the verdict of what joins conditions follows from theirs.
func requireConsistent(t *testing.T, e filters.Explanation) {
	t.Helper()
	verdicts := make([]filters.Verdict, len(e.Parts))
	for i, part := range e.Parts {
		requireConsistent(t, part)
		verdicts[i] = part.Verdict
	}
	if len(verdicts) == 0 {
		return
	}
	switch e.Text {
	case "all of":
		require.Equal(t, slices.Min(verdicts), e.Verdict, tree(e))
	case "any of":
		require.Equal(t, slices.Max(verdicts), e.Verdict, tree(e))
	case "not":
		require.Equal(t, filters.Yes-verdicts[0], e.Verdict, tree(e))
	}
}

func TestAnExplanationIsFitForATerminal(t *testing.T) {
	f := compile(t, `{"a":"`+strings.Repeat("é", 100)+`"}`)
	got := f.Explain(&filters.Event{Data: filters.NewDoc([]byte(`{"a":[`+"\n\t"+`"\u001b[31m`+"\u009b\u202e"+`",1]}`), nil)})
	require.Equal(t, `a $eq "`+strings.Repeat("é", 39)+"…", got.Text)
	require.Equal(t, `is [  "\u001b[31m`+"\ufffd\ufffd"+`",1]`, got.Why)
}

func TestAnExplanationIsJSON(t *testing.T) {
	got, err := json.Marshal(compile(t, `{"$not":{"a":1}}`).Explain(&filters.Event{Data: filters.NewDoc([]byte(`{}`), nil)}))
	require.NoError(t, err)
	require.JSONEq(t, `{"text":"not","verdict":"yes","parts":[{"text":"a $eq 1","verdict":"no","why":"is missing"}]}`, string(got))
}

func TestAFilterThatWasNotCompiledIsExplained(t *testing.T) {
	var zero filters.Filter
	require.Equal(t, "no: no filter: a filter that was never compiled matches nothing", tree(zero.Explain(&filters.Event{})))
}
