package outbox_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/outbox"
)

// nested is JSON of objects in objects.
func nested(levels int) json.RawMessage {
	return json.RawMessage(strings.Repeat(`{"a":`, levels-1) + `{}` + strings.Repeat(`}`, levels-1))
}

// sized is an object of so many bytes.
func sized(bytes int) json.RawMessage {
	return json.RawMessage(`{"a":"` + strings.Repeat("x", bytes-8) + `"}`)
}

func TestAnInvalidEventIsRefusedBeforePostgresIsAsked(t *testing.T) {
	db := &counted{}
	raw := func(doc string) func(*outbox.Event) {
		return func(e *outbox.Event) { e.Payload = json.RawMessage(doc) }
	}
	const object = "payload: must be a JSON object"
	const escapes = "payload: has an escape for U+0000 or for half of a surrogate pair"
	for name, c := range map[string]struct {
		spoil func(*outbox.Event)
		want  string
	}{
		"no type":             {func(e *outbox.Event) { e.Type = "" }, `type "" is not noun.verb`},
		"no verb":             {func(e *outbox.Event) { e.Type = "order" }, `type "order" is not noun.verb`},
		"three parts":         {func(e *outbox.Event) { e.Type = "a.b.c" }, "is not noun.verb"},
		"capitals":            {func(e *outbox.Event) { e.Type = "Order.paid" }, "is not noun.verb"},
		"a line more":         {func(e *outbox.Event) { e.Type = "order.paid\n" }, "is not noun.verb"},
		"long type":           {func(e *outbox.Event) { e.Type = "a." + strings.Repeat("b", 99) }, "the type has 101 bytes; at most 100"},
		"short id":            {func(e *outbox.Event) { e.ID = "evt_1" }, "the id is not evt_ and 26 characters"},
		"id in capitals":      {func(e *outbox.Event) { e.ID = "evt_" + strings.Repeat("A", 26) }, "the id is not evt_"},
		"visibility":          {func(e *outbox.Event) { e.Visibility = "friends" }, "the visibility is not private, unlisted or public"},
		"id without type":     {func(e *outbox.Event) { e.Aggregate.ID = "1" }, "the aggregate has no type"},
		"ns without type":     {func(e *outbox.Event) { e.Aggregate.NS = "shop" }, "the aggregate has no type"},
		"long aggregate type": {func(e *outbox.Event) { e.Aggregate.Type = strings.Repeat("x", 513) }, "the aggregate type has 513 bytes; at most 512"},
		"U+0000":              {func(e *outbox.Event) { e.Owner.UserID = "a\x00" }, "the user id is not text"},
		"not UTF-8":           {func(e *outbox.Event) { e.Owner.TenantID = "\xff" }, "the tenant id is not text"},
		"year 0":              {func(e *outbox.Event) { e.OccurredAt = time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC) }, "in the year 0"},
		"year 10000":          {func(e *outbox.Event) { e.OccurredAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "in the year 10000"},
		"no payload":          {func(e *outbox.Event) { e.Payload = nil }, object},
		"nil pointer":         {func(e *outbox.Event) { e.Payload = (*outbox.Event)(nil) }, object},
		"array":               {func(e *outbox.Event) { e.Payload = []int{1} }, object},
		"plain bytes":         {func(e *outbox.Event) { e.Payload = []byte(`{}`) }, "bytes need the type json.RawMessage"},
		"no JSON at all":      {func(e *outbox.Event) { e.Payload = make(chan int) }, "payload: json: unsupported type: chan int"},
		"NaN":                 {func(e *outbox.Event) { e.Payload = map[string]any{"a": math.NaN()} }, "payload: json: unsupported value: NaN"},
		"broken JSON":         {raw(`{"a":`), "payload: json: error calling MarshalJSON"},
		"two values":          {raw(`{} {}`), "payload: json: error calling MarshalJSON"},
		"bytes not UTF-8":     {raw("{\"a\":\"\xff\"}"), "payload: is not UTF-8"},
		"escaped U+0000":      {raw(`{"a":"\u0000"}`), escapes},
		"U+0000 from Go":      {func(e *outbox.Event) { e.Payload = map[string]string{"a": "\x00"} }, escapes},
		"high half":           {raw(`{"a":"\ud83d"}`), escapes},
		"high half, then x":   {raw(`{"a":"\ud83dxxxxxx"}`), escapes},
		"low half":            {raw(`{"a":"\ude00\ud83d"}`), escapes},
		"in a key":            {raw(`{"\u0000":1}`), escapes},
		"exponent":            {raw(`{"a":[1e1000]}`), "payload: has a number whose exponent has more than three digits"},
		"signed exponent":     {raw(`{"a":1E-16384}`), "payload: has a number whose exponent"},
		"depth":               {func(e *outbox.Event) { e.Payload = nested(513) }, "payload: is nested deeper than 512 levels"},
		"size":                {func(e *outbox.Event) { e.Payload = sized(outbox.MaxEventSize - 1) }, "payload and metadata have 524289 bytes; at most 524288"},
		"metadata":            {func(e *outbox.Event) { e.Metadata = map[string]any{"a": "\x00"} }, "metadata: has an escape for U+0000"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := paid()
			c.spoil(&bad)
			_, err := outbox.Append(t.Context(), db, paid(), bad)
			require.ErrorIs(t, err, outbox.ErrInvalid)
			require.ErrorContains(t, err, "append events: invalid event: number 2 of 2: ")
			require.ErrorContains(t, err, c.want)
		})
	}
	require.Zero(t, db.statements)
}

func TestACallHasBounds(t *testing.T) {
	db := &counted{}
	_, err := outbox.Append(t.Context(), db, repeat(paid(), outbox.MaxEvents+1)...)
	require.ErrorIs(t, err, outbox.ErrInvalid)
	require.ErrorContains(t, err, "1001 in one call; at most 1000")

	large := paid()
	large.Payload = sized(outbox.MaxEventSize - 2)
	_, err = outbox.Append(t.Context(), db, repeat(large, outbox.MaxTotalSize/outbox.MaxEventSize+1)...)
	require.ErrorIs(t, err, outbox.ErrInvalid)
	require.ErrorContains(t, err, "more than 16777216 bytes of JSON in one call; append in several")
	require.Zero(t, db.statements)
}

func TestPostgresTakesWhatIsJustWithinTheBounds(t *testing.T) {
	db := newDB(t)
	const long = outbox.MaxNameSize
	longType := "a." + strings.Repeat("b", outbox.MaxTypeSize-2)
	db.Exec(`insert into zapier_webhook_events values ($1, 'a', 'long')`, longType)
	for name, event := range map[string]outbox.Event{
		"type": {Type: longType, Payload: struct{}{}},
		"names": {
			Type: "order.paid", Payload: struct{}{},
			Aggregate: outbox.Aggregate{Type: random(long), NS: random(long), ID: random(long)},
			Owner:     outbox.Owner{UserID: random(long), TenantID: random(long)},
		},
		"depth":      {Type: "order.paid", Payload: nested(outbox.MaxDepth)},
		"size":       {Type: "order.paid", Payload: sized(outbox.MaxEventSize - 2)},
		"first year": {Type: "order.paid", Payload: struct{}{}, OccurredAt: time.Time{}.Add(time.Microsecond)},
		"last year":  {Type: "order.paid", Payload: struct{}{}, OccurredAt: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)},
		"numbers":    {Type: "order.paid", Payload: json.RawMessage(`{"a":[1e999,-1.5E-999,1e+5,true,false,null,"1e1000"]}`)},
		"escapes":    {Type: "order.paid", Payload: json.RawMessage(`{"\\u0000":"\\\\u0000 \ud83d\ude00 \uFFFD \/ \" \u0022"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			ids, err := outbox.Append(t.Context(), db.Pool, event)
			require.NoError(t, err)
			want, err := json.Marshal(event.Payload)
			require.NoError(t, err)
			require.True(t, pgtest.One[bool](db, `select payload = $2::text::jsonb from outbox_events where event_id = $1`, ids[0], string(want)))
		})
	}
	large := paid()
	large.Payload = sized(outbox.MaxEventSize - 2)
	_, err := outbox.Append(t.Context(), db.Pool, repeat(large, outbox.MaxTotalSize/outbox.MaxEventSize)...)
	require.NoError(t, err)
}
