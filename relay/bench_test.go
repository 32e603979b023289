package relay_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

// thing is a row of the sample table things, some 300 bytes of it in JSON.
var thing = &relay.Relation{OID: 2, Schema: "public", Name: "things", ReplicaIdentity: relay.IdentityFull, Columns: []relay.Column{
	{Name: "ns", Type: textType, Key: true},
	{Name: "id", Type: textType, Key: true},
	{Name: "type", Type: textType},
	{Name: "content", Type: textType},
	{Name: "data", Type: &relay.Type{OID: 3802}},
	{Name: "visibility", Type: textType},
	{Name: "user_id", Type: textType},
	{Name: "created_at", Type: &relay.Type{OID: 1184}},
	{Name: "updated_at", Type: &relay.Type{OID: 1184}},
}}

func thingRow(i int, status string) relay.Tuple {
	return tuple("onet", fmt.Sprintf("15-%d.00", i), "Function", strings.Repeat("Design and develop. ", 5),
		`{"tags": ["a", "b"], "title": "Software Developers", "status": "`+status+`"}`, "public", "user_1",
		"2026-11-23 10:00:00.123456+00", "2026-11-23 10:00:00.123456+00")
}

// thingSchema is as the registry has it for things.
const thingSchema = `{"type":"object","required":["ns","id","type"],"properties":{"ns":{"type":"string"},"id":{"type":"string"},"type":{"type":"string"},
	"content":{"type":["string","null"]},"code":{"type":["string","null"]},"data":{},"visibility":{"enum":["public","unlisted","private"]},
	"created_at":{"type":["string","null"],"format":"date-time"},"updated_at":{"type":["string","null"],"format":"date-time"}}}`

func BenchmarkMap(b *testing.B) {
	for _, bc := range []struct {
		name     string
		op       relay.Op
		mappings []string
		schema   string
	}{
		{"unmapped", relay.OpDelete, []string{mappingRow("m0", "public.things", "insert", "thing.created", "")}, ""},
		{"insert", relay.OpInsert, []string{mappingRow("m0", "public.things", "insert", "thing.created", "")}, ""},
		{"insert, any object", relay.OpInsert, []string{mappingRow("m0", "public.things", "insert", "thing.created", "")}, `{"type":"object"}`},
		{"insert held to a schema", relay.OpInsert, []string{mappingRow("m0", "public.things", "insert", "thing.created", "")}, thingSchema},
		{"insert of two events held to a schema", relay.OpInsert, []string{
			mappingRow("m0", "public.things", "insert", "thing.created", ""), mappingRow("m1", "public.things", "insert", "function.created", ""),
		}, thingSchema},
		{"filtered insert of two events", relay.OpInsert, []string{
			mappingRow("m0", "public.things", "insert", "thing.created", ""),
			mappingRow("m1", "public.things", "insert", "function.created", `,"match_new":{"type":"Function"},"audience":"row","user_column":"user_id","visibility_column":"visibility"`),
		}, ""},
		{"filter that does not match", relay.OpInsert, []string{mappingRow("m0", "public.things", "insert", "thing.created", `,"match_new":{"type":"Agent"}`)}, ""},
		{"update", relay.OpUpdate, []string{mappingRow("m0", "public.things", "update", "thing.updated", "")}, ""},
		{"update with redaction", relay.OpUpdate, []string{mappingRow("m0", "public.things", "update", "thing.updated", `,"redact_columns":["content"]`)}, ""},
	} {
		b.Run(bc.name, func(b *testing.B) {
			catalog := catalogOf(bc.mappings...)
			if bc.schema != "" {
				for name := range catalog.Events {
					catalog.Events[name] = json.RawMessage(`{"enabled":true,"payload_schema":` + bc.schema + `}`)
				}
			}
			m := relay.NewMapper(relay.MapperConfig{
				Identity: relay.Identity{SystemID: "7000000000000000001", Lineage: "0123456789abcdef01234567"},
				Catalog:  catalog, Outbox: "public.outbox_events", MaxBody: 1 << 20,
				Refuse: func(name string, err error) { require.NoError(b, err, name) },
			})
			c := relay.Change{
				Position: relay.Position{CommitLSN: 0x16B3748}, XID: 7, CommitTime: time.UnixMicro(1_795_000_000_000_000),
				Op: bc.op, Relation: thing, New: thingRow(1, "new"),
			}
			if bc.op != relay.OpInsert {
				c.Old = thingRow(1, "old")
			}
			var buf relay.Buffer
			events := make([]relay.Event, 0, 2048)
			b.ReportAllocs()
			for b.Loop() {
				if len(events) > 1000 {
					buf.Reset()
					events = events[:0]
				}
				c.Position.Ordinal++
				c.New[1].Data[3] = '0' + byte(c.Position.Ordinal%10) // another row
				events = m.Map(events, &buf, &c)
			}
		})
	}
}

// BenchmarkCapture is the engine between a log and a stream that cost next to
// nothing.
func BenchmarkCapture(b *testing.B) {
	w := newWorld(thingCreated)
	w.every = time.Second
	const size = 500
	var batches []relay.Batch
	for i := 0; i < b.N; i += size {
		batches = append(batches, transaction(start+relay.LSN(i)*0x100+0x40, size, size)...)
	}
	w.log.Add(batches...)
	total := len(batches) * size
	b.ReportAllocs()
	b.ResetTimer()
	w.runUntil(b, func() bool { return w.stream.Seq() == uint64(total) })
}
