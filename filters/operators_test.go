package filters_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

// question is a filter and the events it is asked about.
type question struct {
	filter    string
	operators []string // first spellings, sorted
	events    []happening
	trials    []trial
}

// trialsPerFilter is how many events each filter is asked about.
const trialsPerFilter = 10

func (g *generator) question() question {
	e := g.happening()
	filter := g.inquiry(e)
	q := question{filter: write(filter, g.Uint64(), false), operators: operatorsOf(filter)}
	for first := e; len(q.events) < trialsPerFilter; {
		q.events = append(q.events, e)
		q.trials = append(q.trials, e.trial(g.Uint64()))
		if g.chance(30) {
			e = first
		}
		e = g.like(e)
	}
	return q
}

// operatorsOf returns the operators that a filter uses, "plain" when it uses none.
func operatorsOf(filter any) []string {
	used := map[string]bool{}
	var walk func(f any)
	walk = func(f any) {
		switch f := f.(type) {
		case members:
			for _, p := range f {
				if name, operator := slowKey(p.key); operator {
					used[name] = true
				}
				walk(p.value)
			}
		case []any:
			for _, element := range f {
				walk(element)
			}
		}
	}
	walk(filter)
	if len(used) == 0 {
		return []string{"plain"}
	}
	list := make([]string, 0, len(used))
	for name := range used {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// trial writes the rows of an event.
func (e happening) trial(seed uint64) trial {
	return trial{op: e.op, data: write(e.data, seed, false), before: write(e.before, seed+1, false), unsent: e.unsent, unsentOld: e.unsentOld}
}

// slow reads the rows of a trial.
func (tr trial) slow(t testing.TB) slowEvent {
	row := func(text string, unsent []string) slowRow {
		return slowRow{columns: slowDecode(t, []byte(text)).(map[string]any), unsent: unsent}
	}
	return slowEvent{op: tr.op, data: row(tr.data, tr.unsent), before: row(tr.before, tr.unsentOld)}
}

// event is the trial as the package takes it.
func (tr trial) event() filters.Event {
	op, _ := filters.ParseOp(tr.op)
	return filters.Event{Op: op, Data: filters.NewDoc([]byte(tr.data), tr.unsent), Before: filters.NewDoc([]byte(tr.before), tr.unsentOld)}
}

// partial is the same event with only the changed columns in the row before. ok is false
// when the row as it is has a column that was not there before, which cannot be said so.
func (e happening) partial(g *generator, tr trial, slow slowEvent) (event filters.Event, ok bool) {
	now, was := slow.data.columns, slow.before.columns
	for _, key := range slices.Concat(tr.unsent, slices.Collect(maps.Keys(now))) {
		if _, there := was[key]; !there && !slices.Contains(tr.unsentOld, key) {
			return event, false
		}
	}
	told := make(map[string]bool)
	for _, key := range slices.Sorted(maps.Keys(was)) {
		value, there := now[key]
		same := there && !slices.Contains(tr.unsent, key) && slowSame(value, was[key])
		told[key] = !same || g.chance(10)
		if slices.Contains(tr.unsentOld, key) {
			told[key] = g.chance(10) // what stands there means nothing
		}
	}
	changed := slices.DeleteFunc(slices.Clone(e.before), func(p pair) bool { return !told[p.key] })
	event = tr.event()
	event.Partial = true
	event.Before = filters.NewDoc([]byte(write(changed, g.Uint64(), false)), tr.unsentOld)
	return event, true
}

func (tr trial) String() string {
	return fmt.Sprintf("op %q\ndata   %s without %q\nbefore %s without %q", tr.op, tr.data, tr.unsent, tr.before, tr.unsentOld)
}

func TestRandomOperatorsDecideAsTheirSQLDoes(t *testing.T) {
	const batch = 4_000
	db := newServer(t)
	total := *pairs / 2
	seen := make(map[string]int)
	var waiting []question
	var answers <-chan twinAnswers
	check := func() {
		if waiting == nil {
			return
		}
		got := <-answers
		require.NoError(t, got.err)
		g := newGenerator(uint64(len(waiting)), 3)
		for i, q := range waiting {
			checkQuestion(t, g, q, got.verdicts[i*trialsPerFilter:(i+1)*trialsPerFilter], seen)
		}
	}
	for done, s := 0, *seed; done < total; done, s = done+batch, s+1 {
		g := newGenerator(s, 2)
		questions := make([]question, batch/trialsPerFilter)
		conditions := make([]string, len(questions))
		var trials []trial
		for i := range questions {
			questions[i] = g.question()
			conditions[i] = sqlTwin(t, questions[i].filter)
			trials = append(trials, questions[i].trials...)
		}
		next := askTwins(t, db, conditions, trials) // answers while those of the last batch are checked
		check()
		waiting, answers = questions, next
	}
	check()
	t.Log(seen)
	for _, name := range append(allOperators(), "plain") {
		for _, v := range []filters.Verdict{no, unknown, yes} {
			require.Greater(t, seen[name+" "+v.String()], total/3_000, "the generator asks too few questions of %s with the answer %s: %v", name, v, seen)
		}
	}
	require.Greater(t, seen["partial"], total/10)
	require.Greater(t, seen["never matches"], total/1_000)
}

func allOperators() []string {
	return strings.Fields("$eq $ne $gt $gte $lt $lte $in $nin $prefix $suffix $contains $exists $and $or $not $op $changed $before $from $to")
}

// checkQuestion compares the answers to one question in all the ways it can be asked.
func checkQuestion(t *testing.T, g *generator, q question, answers []filters.Verdict, seen map[string]int) {
	f := compile(t, q.filter)
	again := compile(t, f.String())
	require.Equal(t, f.String(), again.String(), q.filter)
	require.Equal(t, f.Keys(), again.Keys(), q.filter)
	require.Equal(t, f.NeedsOld(), again.NeedsOld(), q.filter)
	never := slices.ContainsFunc(f.Warnings(), func(w filters.Warning) bool {
		return w.Code == filters.NeverMatches && !strings.Contains(w.Pointer, "/$or/") && !strings.Contains(w.Pointer, "/$not/")
	})
	decoded := slowDecode(t, []byte(q.filter))
	for i, want := range answers {
		tr := q.trials[i]
		for _, name := range q.operators {
			seen[name+" "+want.String()]++
		}
		slow := tr.slow(t)
		require.Equal(t, want, slow.answer(decoded), "the slow matcher: %s\n%s", q.filter, tr)
		event := tr.event()
		require.Equal(t, want, f.MatchEvent(&event), "%s\n%s", q.filter, tr)
		require.Equal(t, want, again.MatchEvent(&event), "%s\n%s", f, tr)
		if never {
			require.NotEqual(t, yes, want, "%s never matches: %v\n%s", q.filter, f.Warnings(), tr)
			seen["never matches"]++
		}
		if part, ok := q.events[i].partial(g, tr, slow); ok {
			require.Equal(t, want, f.MatchEvent(&part), "partial: %s\n%s", q.filter, tr)
			seen["partial"]++
		}
		bare := event
		bare.Before = filters.Doc{}
		if got := f.MatchEvent(&bare); !f.NeedsOld() || got != unknown {
			require.Equal(t, want, got, "without the row before: %s\n%s", q.filter, tr)
		}
		bare.Op = filters.OpUnknown
		if got := f.MatchEvent(&bare); tr.op != "truncate" && got != unknown {
			require.Equal(t, want, got, "without the operation: %s\n%s", q.filter, tr)
		}
		if !f.NeedsOld() {
			if q.operators[0] == "plain" && tr.op != "truncate" {
				require.Equal(t, want, f.MatchDoc(event.Data), "as a document: %s\n%s", q.filter, tr)
			}
		}
		if i%3 == 1 {
			explained := f.Explain(&event)
			require.Equal(t, want, explained.Verdict, "explained: %s\n%s", q.filter, tr)
			checkExplanation(t, explained, tr.op)
		}
		if i%3 == 0 && !strings.Contains(f.String(), `"outside"`) {
			rest := q.events[i].only(f.Keys()).trial(g.Uint64())
			event := rest.event()
			require.Equal(t, want, f.MatchEvent(&event), "only with the columns %q: %s\n%s", f.Keys(), q.filter, tr)
		}
	}
}

// checkExplanation checks that what is said of a whole follows from what is said of its
// parts.
func checkExplanation(t *testing.T, x filters.Explanation, op string) {
	require.NotEmpty(t, x.Text)
	if len(x.Parts) == 0 {
		require.NotEmpty(t, x.Why, x.Text)
		return
	}
	verdicts := make([]filters.Verdict, len(x.Parts))
	for i, part := range x.Parts {
		verdicts[i] = part.Verdict
		checkExplanation(t, part, op)
	}
	want := slices.Min(verdicts)
	switch {
	case x.Text == "not":
		want = not(want)
	case x.Text == "any of", strings.HasPrefix(x.Text, "$changed "):
		want = slices.Max(verdicts)
	case strings.HasPrefix(x.Text, "$before") && op == "":
		want = min(want, unknown)
	case strings.HasPrefix(x.Text, "$before") && op != "update" && op != "delete":
		want = no
	}
	require.Equal(t, want, x.Verdict, "%+v", x)
}

// only leaves out the columns that are not among keys.
func (e happening) only(keys []string) happening {
	other := func(p pair) bool { return !slices.Contains(keys, p.key) }
	e.data, e.before = slices.DeleteFunc(slices.Clone(e.data), other), slices.DeleteFunc(slices.Clone(e.before), other)
	return e
}
