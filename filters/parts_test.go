package filters

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// thing is something with a hash of its own.
type thing struct {
	name int
	hash uint64
}

func thingHash(t *thing) uint64 { return t.hash }

func (t *table[E]) search(hash uint64) []*E {
	var all []*E
	q := t.find(hash)
	for e := q.next(); e != nil; e = q.next() {
		all = append(all, e)
	}
	return all
}

func TestATableFindsWhatWasPutAndNothingThatWasDropped(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var tb table[thing]
	var live []*thing
	for step := range 60_000 {
		if len(live) > 0 && r.IntN(100) < 35 {
			i := r.IntN(len(live))
			tb.drop(live[i], live[i].hash)
			require.NotContains(t, tb.search(live[i].hash), live[i])
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
			continue
		}
		made := &thing{name: step, hash: r.Uint64()}
		if r.IntN(10) == 0 && len(live) > 0 {
			made.hash = live[r.IntN(len(live))].hash // two things of one hash
		}
		tb.put(made, thingHash)
		live = append(live, made)
	}
	require.Equal(t, len(live), tb.count)
	for _, e := range live {
		require.Contains(t, tb.search(e.hash), e)
	}
	seen := map[*thing]int{}
	tb.each(func(e *thing) { seen[e]++ })
	require.Len(t, seen, len(live))
	for e, n := range seen {
		require.Equal(t, 1, n, "each thing once: %d", e.name)
	}
}

func TestATableHoldsAnyNumberOfThingsWithOneHash(t *testing.T) {
	var tb table[thing]
	for i := range 5_000 {
		tb.put(&thing{name: i, hash: 42}, thingHash)
	}
	require.Len(t, tb.search(42), 5_000)
	require.Empty(t, tb.search(42|0x5500))
}

func TestATableIsSearchedWhileItChanges(t *testing.T) {
	var tb table[thing]
	r := rand.New(rand.NewPCG(3, 4))
	lasting := make([]*thing, 500)
	for i := range lasting {
		lasting[i] = &thing{name: i, hash: r.Uint64()}
		tb.put(lasting[i], thingHash)
	}
	var stop atomic.Bool
	var readers sync.WaitGroup
	missed := atomic.Int64{}
	for range 2 {
		readers.Go(func() {
			for !stop.Load() {
				for _, e := range lasting {
					if !slices.Contains(tb.search(e.hash), e) {
						missed.Add(1)
					}
				}
			}
		})
	}
	for range 20 {
		passing := make([]*thing, 1_000)
		for i := range passing {
			passing[i] = &thing{hash: r.Uint64()}
			tb.put(passing[i], thingHash)
		}
		for _, e := range passing {
			tb.drop(e, e.hash)
		}
	}
	stop.Store(true)
	readers.Wait()
	require.Zero(t, missed.Load(), "a thing that was there all the time was not found")
}

func TestABagIsASet(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var b bag[int]
	want := map[int]bool{}
	for range 40_000 {
		v := r.IntN(3_000)
		if r.IntN(2) == 0 {
			require.Equal(t, !want[v], b.put(v))
			want[v] = true
		} else {
			require.Equal(t, want[v], b.drop(v))
			delete(want, v)
		}
		require.Equal(t, len(want), b.size)
	}
	got := b.all(nil)
	require.Len(t, got, len(want))
	for _, v := range got {
		require.True(t, want[v])
		require.True(t, b.has(v))
	}
	for v := range want {
		require.True(t, b.drop(v))
	}
	require.Empty(t, b.all(nil))
	require.False(t, b.has(1))
	require.True(t, b.put(1))
}

func TestIntervalsAreThoseThatHoldAPoint(t *testing.T) {
	type span struct{ low, high uint64 }
	r := rand.New(rand.NewPCG(7, 8))
	var tree *interval[span]
	live := map[*span]bool{}
	for range 5_000 {
		if len(live) > 200 && r.IntN(2) == 0 {
			for s := range live {
				var found bool
				tree, found = tree.drop(s.low, s)
				require.True(t, found)
				delete(live, s)
				break
			}
		} else {
			s := &span{low: r.Uint64N(50)}
			s.high = s.low + r.Uint64N(10)
			tree = tree.put(s.low, s.high, s)
			live[s] = true
		}
		at := r.Uint64N(60)
		inside, edge := tree.holding(at, nil, nil)
		for _, s := range inside {
			require.True(t, s.low < at && at < s.high)
		}
		got := slices.Concat(inside, edge)
		want := 0
		for s := range live {
			if s.low <= at && at <= s.high {
				want++
				require.Contains(t, got, s)
			}
		}
		require.Len(t, got, want)
	}
	require.Len(t, tree.all(nil), len(live))
	_, found := tree.drop(1, &span{})
	require.False(t, found)
}

func TestAFilterWithSeveralIntervalsLosesTheOneThatIsDropped(t *testing.T) {
	type span struct{ _ int }
	one, other := &span{}, &span{}
	for range 200 { // the shape of the tree is random
		var tree *interval[span]
		for _, low := range []uint64{5, 1, 9, 3, 7} {
			tree = tree.put(low, low, one)
			tree = tree.put(low+1, low+1, other)
		}
		for _, low := range []uint64{9, 1, 7, 5, 3} {
			var found bool
			tree, found = tree.drop(low, one)
			require.True(t, found)
			_, edge := tree.holding(low, nil, nil)
			require.NotContains(t, edge, one)
		}
		require.Len(t, tree.all(nil), 5)
	}
}

func TestPointsKeepTheOrderOfNumbersAndStrings(t *testing.T) {
	numbers := []string{"-1e400", "-9007199254740993", "-9007199254740992", "-2", "-1.5", "-1e-400", "0", "-0", "1e-400", "0.1", "0.10000000000000000001", "1", "1.0", "9007199254740992", "9007199254740993", "1e308", "1e400"}
	for i := 1; i < len(numbers); i++ {
		require.LessOrEqual(t, numberPoint(numbers[i-1]), numberPoint(numbers[i]), numbers[i])
	}
	require.Less(t, numberPoint("-1"), numberPoint("1"))
	texts := []string{"", "a", "ab", "abcdefgh", "abcdefghi", "abcdefgi", "b", "é"}
	for i := 1; i < len(texts); i++ {
		require.LessOrEqual(t, textPoint(texts[i-1]), textPoint(texts[i]))
	}
}

func TestANumberHasOneHashInEveryNotation(t *testing.T) {
	for _, same := range [][]string{
		{"0", "-0", "0.0", "0e10", "0.000"},
		{"1.5", "15e-1", "1.50", "0.15e1", "150e-2"},
		{"100", "1e2", "100.0", "0.1e3"},
		{"-12.75", "-1275e-2", "-0.1275e2", "-12.7500"},
	} {
		first, ok := hashRaw(same[0])
		require.True(t, ok)
		for _, raw := range same {
			hash, ok := hashRaw(raw)
			require.True(t, ok)
			require.Equal(t, first, hash, raw)
			d, storable := parseDecimal(raw)
			require.True(t, storable)
			n := numberNode(d)
			require.Equal(t, first, hashNode(&n), raw)
		}
	}
	one, _ := hashRaw("1")
	minus, _ := hashRaw("-1")
	require.NotEqual(t, one, minus)
}

func TestAFieldThatNobodyUsesIsGoneAndItsSlotIsUsedAgain(t *testing.T) {
	var tr tree
	tr.init()
	a := tr.keep(path{"a", "b"}, nil)
	again := tr.keep(path{"a", "b"}, nil)
	require.Same(t, a, again)
	items := tr.keep(path{"items"}, []path{{"sku"}})
	require.True(t, items.many)
	made := tr.slots.made
	tr.release([]*field{a, items})
	require.NotNil(t, tr.find(path{"a", "b"}))
	require.Nil(t, tr.find(path{"items"}))
	tr.release([]*field{again})
	require.Nil(t, tr.find(path{"a"}))
	for i := range 1_000 {
		f := tr.keep(path{"k", string(rune('a' + i%26))}, nil)
		tr.release([]*field{f})
	}
	require.Equal(t, made, tr.slots.made)
	require.Nil(t, tr.root.kids.Load())
}

func TestAScanKeepsTheLastOfRepeatedKeysAndForgetsWhatWasBelow(t *testing.T) {
	var tr tree
	tr.init()
	x := tr.keep(path{"a", "x"}, nil)
	y := tr.keep(path{"a", "y"}, nil)
	sku := tr.keep(path{"items"}, []path{{"sku"}})
	r := &reading{}
	r.size(int(tr.slots.made))
	require.True(t, r.scan(tr.root, `{"a":{"x":1,"y":2},"items":[{"sku":"A"},{"sku":"B"}],"a":{"y":3},"\u0069tems":[{"sku":"C"},{}]}`))
	require.Empty(t, r.value(x.slot))
	require.Equal(t, "3", r.value(y.slot))
	var skus []string
	for v := &r.slots[sku.slot]; v != nil; v = r.after(v) {
		skus = append(skus, v.raw)
	}
	require.Equal(t, []string{`"C"`}, skus)
	require.True(t, r.scan(tr.root, `{"b":1}`))
	require.Empty(t, r.value(y.slot))
}

func TestAScanRefusesWhatTheSyntaxCheckRefuses(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	pieces := []string{`{`, `}`, `[`, `]`, `,`, `:`, `"a"`, `"b\n"`, `"é"`, `"\ud83d\ude00"`, `1`, `-0.5e+3`, `01`, `1.`, `true`, `nul`, `null`, ` `, "\n", `"`, `\`, "\x01", "\xff", `"k":1`, `{"a":1}`, `[1,2]`}
	var tr tree
	tr.init()
	tr.keep(path{"a", "k"}, []path{{"k"}})
	rd := &reading{}
	rd.size(int(tr.slots.made))
	valid := 0
	for range 300_000 {
		s := ""
		if r.IntN(2) == 0 {
			s = `{"a":`
		}
		for range 1 + r.IntN(8) {
			s += pieces[r.IntN(len(pieces))]
		}
		if r.IntN(2) == 0 {
			s += `}`
		}
		want := checkSyntax(s, MaxDocDepth).problem == ""
		if want {
			valid++
		}
		require.Equal(t, want, rd.scan(tr.root, s), "%q", s)
	}
	require.Greater(t, valid, 3_000)
}
