package relay_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

// column kinds of random relations: how a value is drawn, and what encoding/json
// makes of the same value.
var drawn = []struct {
	typ  relay.Type
	draw func(*rand.Rand) (text string, value any)
}{
	{relay.Type{OID: 25}, func(r *rand.Rand) (string, any) { s := randomText(r); return s, s }},
	{relay.Type{OID: 16}, func(r *rand.Rand) (string, any) {
		if r.IntN(2) == 0 {
			return "f", false
		}
		return "t", true
	}},
	{relay.Type{OID: 20}, func(r *rand.Rand) (string, any) { n := r.Int64() - r.Int64(); return strconv.FormatInt(n, 10), n }},
	{relay.Type{OID: 701}, func(r *rand.Rand) (string, any) {
		s := strconv.FormatFloat(r.NormFloat64()*1e9, 'g', -1, 64)
		return s, json.Number(s)
	}},
	{relay.Type{OID: 1700}, func(r *rand.Rand) (string, any) {
		if r.IntN(4) == 0 {
			return "NaN", "NaN"
		}
		s := fmt.Sprintf("%d.%018d", r.Int64(), r.Int64N(1e18))
		return s, json.Number(s)
	}},
	{relay.Type{OID: 1184}, func(r *rand.Rand) (string, any) {
		at := time.UnixMicro(r.Int64N(4e15)).UTC()
		return at.Format("2006-01-02 15:04:05.999999+00"), at
	}},
	{relay.Type{OID: 17}, func(r *rand.Rand) (string, any) { b := []byte(randomText(r)); return fmt.Sprintf(`\x%x`, b), b }},
	{relay.Type{OID: 3802}, func(r *rand.Rand) (string, any) {
		v := map[string]any{"a": randomText(r), "b": []any{r.IntN(9), nil}}
		text, _ := json.Marshal(v)
		return string(text), json.RawMessage(text)
	}},
}

func randomText(r *rand.Rand) string {
	runes := []rune("ab\"\\/\n\t\x00\x1f\x7f<>&é\u2028😀{}[],:")
	out := make([]rune, r.IntN(12))
	for i := range out {
		out[i] = runes[r.IntN(len(runes))]
	}
	return string(out)
}

// randomRow draws a row and the values that its data should have by encoding/json.
func randomRow(r *rand.Rand, rel *relay.Relation, kinds []int) (relay.Tuple, map[string]any) {
	t, want := make(relay.Tuple, len(kinds)), map[string]any{}
	for i, kind := range kinds {
		switch r.IntN(6) {
		case 0:
			t[i] = relay.Value{Kind: relay.Null}
			want[rel.Columns[i].Name] = nil
		case 1:
			t[i] = relay.Value{Kind: relay.Unavailable}
		default:
			text, value := drawn[kind].draw(r)
			t[i] = relay.Value{Kind: relay.Text, Data: []byte(text)}
			want[rel.Columns[i].Name] = value
		}
	}
	return t, want
}

func TestEveryBodyIsJSONAndItsDataWhatEncodingJSONWouldBuild(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		rel := &relay.Relation{OID: uint32(seed), Schema: "public", Name: "t", ReplicaIdentity: relay.IdentityFull}
		kinds := make([]int, 1+r.IntN(9))
		for i := range kinds {
			kinds[i] = r.IntN(len(drawn))
			rel.Columns = append(rel.Columns, relay.Column{Name: fmt.Sprint(randomText(r), i), Type: &drawn[kinds[i]].typ, Key: r.IntN(3) == 0})
		}
		m := relay.NewMapper(relay.MapperConfig{
			Catalog: catalogOf(
				mappingRow("m0", "public.t", "insert", "thing.created", ""), mappingRow("m1", "public.t", "update", "thing.updated", ""),
				mappingRow("m2", "public.t", "delete", "agent.deleted", ""), mappingRow("m3", "public.t", "truncate", "function.created", ""),
			),
			MaxBody: r.IntN(3) * 700, Refuse: func(string, error) {},
		})
		var buf relay.Buffer
		for ordinal := range uint32(40) {
			c := relay.Change{Position: relay.Position{CommitLSN: 1, Ordinal: ordinal}, CommitTime: committed, Op: relay.Op(1 + r.IntN(5)), Relation: rel}
			var want map[string]any
			switch c.Op {
			case relay.OpTruncate:
				want = map[string]any{}
			case relay.OpDelete:
				c.Old, want = randomRow(r, rel, kinds)
			default:
				c.Old, _ = randomRow(r, rel, kinds)
				c.New, want = randomRow(r, rel, kinds)
			}
			for _, e := range m.Map(nil, &buf, &c) {
				require.True(t, json.Valid(e.Body), "seed %d: %q", seed, e.Body)
				var body struct {
					Data     json.RawMessage
					Oversize bool
				}
				require.NoError(t, json.Unmarshal(e.Body, &body))
				require.Equal(t, string(body.Data), string(e.Data))
				requireReadsBack(t, e)
				if body.Oversize {
					continue
				}
				text, err := json.Marshal(want)
				require.NoError(t, err)
				require.JSONEq(t, string(text), string(e.Data), "seed %d", seed)
				require.Equal(t, numbers(text), numbers(e.Data), "seed %d", seed) // which JSONEq rounds
				require.Len(t, e.Unavailable, len(rel.Columns)*min(1, len(c.New)+len(c.Old))-len(want))
			}
		}
	}
}

// numbers returns a document's numbers as they are written, sorted.
func numbers(doc []byte) []string {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var out []string
	for {
		token, err := d.Token()
		if err != nil {
			slices.Sort(out)
			return out
		}
		if n, ok := token.(json.Number); ok {
			out = append(out, n.String())
		}
	}
}

func TestBodiesNeverOverlapNorChangeAfterLaterOnes(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		m := relay.NewMapper(relay.MapperConfig{Catalog: catalogOf(agentMapping("insert", "")), Refuse: func(string, error) {}})
		var buf relay.Buffer
		for range 3 { // the memory is used again
			buf.Reset()
			var events []relay.Event
			var copies [][]byte
			for i := range 300 {
				size := []int{0, 10, 3000, 5000, 70_000, 300_000}[r.IntN(6)] / (1 + r.IntN(7))
				c := relay.Change{Op: relay.OpInsert, Relation: agents, New: row(strconv.Itoa(i), "-", "-", "-", "-", "-", "-")}
				c.New[5] = relay.Value{Kind: relay.Text, Data: bytes.Repeat([]byte{byte('a' + i%26)}, size)}
				events = m.Map(events, &buf, &c)
				clear(c.New[0].Data) // what the source's memory holds by now
				clear(c.New[5].Data)
				copies = append(copies, bytes.Clone(events[i].Body))
				require.Equal(t, len(events[i].Body), cap(events[i].Body)) // an append to it moves it
				require.Equal(t, len(events[i].Data), cap(events[i].Data))
			}
			for i := range events {
				require.True(t, bytes.Equal(copies[i], events[i].Body), "seed %d, body %d", seed, i)
				require.Equal(t, strconv.Itoa(i), events[i].Key)
			}
			for i := range events { // nobody else is hit by a write
				clear(events[i].Body)
				if i+1 < len(events) {
					require.True(t, bytes.Equal(copies[i+1], events[i+1].Body), "seed %d, body %d", seed, i+1)
				}
			}
		}
	}
}
