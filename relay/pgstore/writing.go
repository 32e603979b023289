package pgstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

// Values of zapier_webhook_logs.status that the ledger writes.
const (
	logSuccess  = "success"
	logRetrying = "retrying"
	logDead     = "dead"
	logSkipped  = "skipped"
	logFailed   = "failed" // would have been tried again, but its subscription is deleted
)

// reasonGone marks dead letters and deactivations after an answer of 410.
const reasonGone = "endpoint_gone"

// maxBodies bounds the bodies in one statement.
const maxBodies = 8 << 20

// writing is what one settling transaction writes: the outcomes of a batch in the
// light of a view.
type writing struct {
	rules   *redactor
	v       *view
	logs    []logRow
	waiting []*entry // new rows of webhook_deliveries
	again   []*entry // claimed rows that are due again later
	done    []*entry // claimed rows to delete
	letters []*entry
	now     map[string]*tally // by subscription
	later   map[string]*tally // of subscriptions that somebody else has locked
	gone    goneEndpoints
	off     []disabled // that this transaction switches off
}

// logRow is an entry with the status that its log row gets.
type logRow struct {
	*entry
	status string
}

// newWriting decides what is written. It returns a *lockedError when that cannot
// be done without waiting.
func newWriting(b *batch, v *view) (*writing, error) {
	w := &writing{rules: b.rules, v: v, now: map[string]*tally{}, later: map[string]*tally{}}
	var locked []string
	for i := range b.entries {
		e := &b.entries[i]
		if e.logID != "" && v.recorded[e.logID] {
			continue
		}
		if !w.add(e) {
			locked = append(locked, e.Delivery.SubscriptionID)
		}
	}
	if len(locked) > 0 {
		return nil, &lockedError{slices.Compact(slices.Sorted(slices.Values(locked)))}
	}
	return w, nil
}

// add is false when the entry cannot be written without waiting.
func (w *writing) add(e *entry) (ok bool) {
	if w.v.stale(e) {
		return true
	}
	sub := e.Delivery.SubscriptionID
	present := w.v.present[sub]
	held := e.Leased != "" && w.v.held[keyOf(&e.Delivery)]
	status := logDead
	switch e.Kind {
	case relay.Retry, relay.Deferred:
		status = logRetrying
		switch {
		case !present:
			status = logFailed
		case held:
			w.again = append(w.again, e)
		case e.Leased != "":
			// Its row is locked by somebody who is deleting the subscription. If that does
			// not come true, the lease runs out and the delivery is claimed again.
		case !w.v.linkable[sub]:
			return false
		default:
			w.waiting = append(w.waiting, e)
		}
	case relay.Delivered:
		status = logSuccess
	case relay.Skipped:
		status = logSkipped
	case relay.Dead, relay.Gone:
		if present {
			w.letters = append(w.letters, e)
		}
	}
	if e.Kind == relay.Deferred {
		return true
	}
	if held && e.Kind != relay.Retry {
		w.done = append(w.done, e)
	}
	w.logs = append(w.logs, logRow{e, status})
	if present {
		w.count(e)
	}
	return true
}

// count adds the attempt to the tally of its subscription.
func (w *writing) count(e *entry) {
	sub := e.Delivery.SubscriptionID
	into := w.now
	if !w.v.countable[sub] {
		into = w.later
	}
	t := into[sub]
	if t == nil {
		t = &tally{}
		into[sub] = t
	}
	if !w.v.linkable[sub] {
		t.unlinked = append(t.unlinked, e.logID)
	}
	if !attempted(e.Outcome) {
		return
	}
	at := w.v.now.Add(-e.age)
	if e.Attempt.Number <= 1 {
		t.triggers++
		t.triggered = later(t.triggered, at)
	}
	if e.Kind == relay.Delivered {
		t.succeed(at)
		return
	}
	t.fail(at)
	t.status = statusCode(e.Attempt)
	if e.Kind == relay.Gone {
		t.gone = &goneAnswer{url: text(e.Attempt.TargetURL, math.MaxInt), status: e.Attempt.StatusCode}
	}
}

func logColumns() []string {
	return []string{
		"id", "webhook_id", "event_type", "event_id", "target_url", "status", "attempt", "request_headers", "payload",
		"response_status", "response_headers", "response_body", "duration_ms", "error_message", "next_retry_at", "delivered_at",
	}
}

// copyLogs writes the log rows.
func (w *writing) copyLogs(ctx context.Context, tx pgx.Tx) error {
	if len(w.logs) == 0 {
		return nil
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"zapier_webhook_logs"}, logColumns(),
		pgx.CopyFromSlice(len(w.logs), func(i int) ([]any, error) { return w.logValues(&w.logs[i]), nil }))
	return err
}

func (w *writing) logValues(r *logRow) []any {
	var (
		d         = &r.Delivery
		a         = r.Attempt
		link      = w.v.link(d.SubscriptionID)
		retryAt   *time.Time
		delivered *time.Time
	)
	switch r.status {
	case logRetrying:
		at := w.v.now.Add(r.Delay)
		retryAt = &at
	case logSuccess:
		at := w.v.now.Add(-r.age)
		delivered = &at
	}
	if a == nil {
		a = &relay.Attempt{Error: r.Reason}
	}
	request := a.RequestHeaders
	if link == nil && request["webhook-id"] == "" {
		// A row that points to no subscription is recognised by this header.
		request = map[string]string{}
		maps.Copy(request, a.RequestHeaders)
		request["webhook-id"] = relay.WebhookID(d.EventID, d.SubscriptionID)
	}
	return []any{
		r.logID, link, text(d.EventType, 200), text(d.EventID, 200), orNull(text(a.TargetURL, math.MaxInt)), r.status, attemptNumber(r.Outcome),
		headersJSON(request), r.payload,
		statusCode(a), headersJSON(w.rules.headers(a.ResponseHeaders)), w.responseBody(a),
		int32(min(max(a.Duration.Milliseconds(), 0), math.MaxInt32)), orNull(text(a.Error, maxErrorText)), retryAt, delivered,
	}
}

// statusCode is null for no answer, and for a code outside what the table takes.
func statusCode(a *relay.Attempt) *int32 {
	if a == nil || a.StatusCode < 100 || a.StatusCode > 599 {
		return nil
	}
	code := int32(a.StatusCode)
	return &code
}

func (w *writing) responseBody(a *relay.Attempt) *string {
	if a.StatusCode == 0 {
		return nil
	}
	body := text(w.rules.answer(a.ResponseBody), maxResponseBody)
	return &body
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// writeRows writes everything but the log, in one round trip. full is true when
// more deliveries wait for an endpoint that is gone than one statement moves.
func (w *writing) writeRows(ctx context.Context, tx pgx.Tx, s switchOff) (full bool, err error) {
	q := &pgx.Batch{}
	for rest := w.waiting; len(rest) > 0; {
		n := fitting(rest)
		queueWaiting(q, rest[:n])
		rest = rest[n:]
	}
	queueAgain(q, w.again)
	queueDone(q, w.done)
	for rest := w.letters; len(rest) > 0; {
		n := fitting(rest)
		w.queueLetters(q, rest[:n])
		rest = rest[n:]
	}
	w.gone = s.queueTallies(q, w.now, &w.off, func(moved int64) { full = moved == moveRows })
	if q.Len() == 0 {
		return false, nil
	}
	return full, tx.SendBatch(ctx, q).Close()
}

// fitting returns how many of the entries go into one statement.
func fitting(entries []*entry) int {
	bytes := 0
	for i, e := range entries {
		if bytes += len(e.Delivery.Body); bytes > maxBodies && i > 0 {
			return i
		}
	}
	return len(entries)
}

// rows are the columns of entries, for unnest.
type rows struct {
	events, subs, types, users, tenants, lsns, states, errors, leases, keys []string
	bodies                                                                  [][]byte
	seqs, delays                                                            []int64
	attempts                                                                []int32
	statuses                                                                []*int32
}

func columns(entries []*entry) rows {
	var r rows
	for _, e := range entries {
		d := &e.Delivery
		r.events, r.subs = append(r.events, text(d.EventID, 200)), append(r.subs, d.SubscriptionID)
		r.types, r.leases = append(r.types, text(d.EventType, 200)), append(r.leases, e.Leased)
		r.keys = append(r.keys, orderingKey(d.OrderingKey))
		r.users, r.tenants = append(r.users, text(d.Owner.UserID, math.MaxInt)), append(r.tenants, text(d.Owner.TenantID, math.MaxInt))
		r.bodies, r.lsns = append(r.bodies, d.Body), append(r.lsns, d.CommitLSN.String())
		r.seqs = append(r.seqs, int64(min(d.StreamSeq, math.MaxInt64)))
		r.delays = append(r.delays, max(e.Delay.Microseconds(), 0))
		state, attempts, failure := "deferred", max(d.Attempts, 0), ""
		if e.Kind != relay.Deferred {
			state, attempts = "retrying", int(attemptNumber(e.Outcome))
		}
		if e.Kind == relay.Deferred {
			failure = text(e.Reason, maxErrorText)
		}
		if e.Attempt != nil {
			failure = text(e.Attempt.Error, maxErrorText)
		}
		r.states, r.errors = append(r.states, state), append(r.errors, failure)
		r.attempts = append(r.attempts, int32(min(attempts, math.MaxInt32)))
		r.statuses = append(r.statuses, statusCode(e.Attempt))
	}
	return r
}

// queueWaiting adds rows of deliveries that came from the stream. One that is
// there already waits for the same thing.
func queueWaiting(q *pgx.Batch, entries []*entry) {
	r := columns(entries)
	q.Queue(`
		insert into webhook_deliveries (event_id, webhook_id, event_type, user_id, tenant_id, body, stream_seq, commit_lsn,
		                                state, attempt, next_attempt_at, last_status, last_error, ordering_key)
		select event_id, webhook_id, event_type, nullif(user_id, ''), nullif(tenant_id, ''), body, nullif(seq, 0),
		       nullif(lsn, '0/0')::pg_lsn, state, attempt, now() + delay * interval '1 microsecond', status, nullif(error, ''), nullif(key, '')
		from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[], $8::text[],
		            $9::text[], $10::integer[], $11::bigint[], $12::integer[], $13::text[], $14::text[])
		     as x (event_id, webhook_id, event_type, user_id, tenant_id, body, seq, lsn, state, attempt, delay, status, error, key)
		order by event_id, webhook_id
		on conflict (event_id, webhook_id) do nothing`,
		r.events, r.subs, r.types, r.users, r.tenants, r.bodies, r.seqs, r.lsns, r.states, r.attempts, r.delays, r.statuses, r.errors, r.keys)
}

// queueAgain ends the leases of claimed rows that are due again later. A deferred
// one keeps what its last attempt left, unless there is a new reason to wait.
func queueAgain(q *pgx.Batch, entries []*entry) {
	if len(entries) == 0 {
		return
	}
	r := columns(entries)
	q.Queue(`
		update webhook_deliveries d
		set state = x.state, attempt = x.attempt, next_attempt_at = now() + x.delay * interval '1 microsecond',
		    last_status = case x.state when 'retrying' then x.status else d.last_status end,
		    last_error = case x.state when 'retrying' then nullif(x.error, '') else coalesce(nullif(x.error, ''), d.last_error) end,
		    locked_by = null, locked_until = null, updated_at = now()
		from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::bigint[], $7::integer[], $8::text[])
		     as x (event_id, webhook_id, lease, state, attempt, delay, status, error)
		where d.event_id = x.event_id and d.webhook_id = x.webhook_id and d.locked_by = x.lease`,
		r.events, r.subs, r.leases, r.states, r.attempts, r.delays, r.statuses, r.errors)
}

// queueDone deletes claimed rows.
func queueDone(q *pgx.Batch, entries []*entry) {
	if len(entries) == 0 {
		return
	}
	r := columns(entries)
	q.Queue(`
		delete from webhook_deliveries d
		using unnest($1::text[], $2::text[], $3::text[]) as x (event_id, webhook_id, lease)
		where d.event_id = x.event_id and d.webhook_id = x.webhook_id and d.locked_by = x.lease`,
		r.events, r.subs, r.leases)
}

// queueLetters adds dead letters. They have the id of their last log row.
func (w *writing) queueLetters(q *pgx.Batch, entries []*entry) {
	r := columns(entries)
	ids, links := make([]string, len(entries)), make([]*string, len(entries))
	urls, reasons := make([]string, len(entries)), make([]string, len(entries))
	for i, e := range entries {
		ids[i], links[i], reasons[i] = e.logID, w.v.link(e.Delivery.SubscriptionID), text(e.Reason, 200)
		if e.Attempt != nil {
			urls[i] = text(e.Attempt.TargetURL, math.MaxInt)
		}
		switch {
		case e.Kind == relay.Gone:
			reasons[i] = reasonGone
		case reasons[i] == "":
			reasons[i] = "exhausted"
		}
	}
	q.Queue(`
		insert into webhook_dead_letters (id, event_id, webhook_id, event_type, target_url, body, attempts, reason,
		                                  last_status, last_error, user_id, tenant_id)
		select id, event_id, webhook_id, event_type, target_url, body, attempts, reason,
		       status, nullif(error, ''), nullif(user_id, ''), nullif(tenant_id, '')
		from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::integer[], $8::text[],
		            $9::integer[], $10::text[], $11::text[], $12::text[])
		     as x (id, event_id, webhook_id, event_type, target_url, body, attempts, reason, status, error, user_id, tenant_id)`,
		ids, r.events, links, r.types, urls, r.bodies, r.attempts, reasons, r.statuses, r.errors, r.users, r.tenants)
}

// maxOrderingKey is what fits into an index with the id of the webhook.
const maxOrderingKey = 500

// orderingKey makes a key fit for its index. Long ones are told apart by their hash.
func orderingKey(key string) string {
	if clean := text(key, maxOrderingKey); clean == key {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(sum[:])
}
