package filters_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

func TestOneFilterLeavesNothingBehindInTheNext(t *testing.T) {
	good := []string{
		`{}`, `{"a":{"b":{"c":1,"d":[{"e":2},[3],4]}},"f":"g"}`, `{"$or":[{"a":1},{"b":{"$not":{"$in":[1,"x"]}}}],"c":{"$eq":{"d":[1,{}]}}}`,
		`{"$changed":["a.0","b"],"c":{"$from":1,"$to":[2]},"$before":{"d":{"$exists":false}}}`, `{"$changed":{"outside":["a"]}}`,
	}
	bad := []string{`{`, `[]`, `{"a":{"$gtee":[1,{"b":2}]}}`, `{"a":[1,{"$or":[{"b":1},2]}],"c":{"$in":[1,[2]]}}`, `{"a":{"$from":{"$gt":1}},"a":{"$eq":[{"$x":[1]}]}}`}
	type answers struct {
		text     string
		keys     []string
		old      bool
		warnings []filters.Warning
		verdict  filters.Verdict
	}
	event := filters.Event{Op: filters.OpUpdate, Data: filters.NewDoc([]byte(`{"a":1,"b":2,"c":[2]}`), nil), Before: filters.NewDoc([]byte(`{"c":1}`), nil)}
	ask := func(f *filters.Filter) answers {
		return answers{f.String(), f.Keys(), f.NeedsOld(), f.Warnings(), f.MatchEvent(&event)}
	}
	compiled, first := make([]*filters.Filter, len(good)), make([]answers, len(good))
	for i, src := range good {
		compiled[i] = compile(t, src)
		first[i] = ask(compiled[i])
	}
	for range 3 {
		for _, src := range bad {
			_ = mistakes(t, src)
			for i, src := range good {
				require.Equal(t, first[i], ask(compile(t, src)), src)
				require.Equal(t, first[i], ask(compiled[i]), src)
			}
		}
	}
}

func TestAFilterIsFirstMatchedByManyAtOnce(t *testing.T) {
	f := compile(t, `{"a":[{"b":[{"c":1}]}],"$changed":["d.0"]}`)
	event := filters.Event{
		Op: filters.OpUpdate, Data: filters.NewDoc([]byte(`{"a":[{"b":[{"c":1}]}],"d":[1]}`), nil), Before: filters.NewDoc([]byte(`{"d":[2]}`), nil),
	}
	var all sync.WaitGroup
	verdicts := make([]filters.Verdict, 8)
	for i := range verdicts {
		all.Go(func() { verdicts[i] = f.MatchEvent(&event) })
	}
	all.Wait()
	for _, v := range verdicts {
		require.Equal(t, filters.Yes, v)
	}
}
