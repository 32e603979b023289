package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dot-do/relay/relay"
)

// readBatch bounds how many rows one announcement batch reads at once.
const readBatch = 500

// maxGaps bounds how many pauses of a row are remembered. Of one that is
// forgotten, an event that is matched that late is delivered.
const maxGaps = 8

// watcher keeps the directory as the database has it. It loads every row once,
// then re-reads the rows that announcements name. applied is the sequence of the
// last announcement that the directory contains.
type watcher struct {
	feed     Feed
	rows     Subscriptions
	dir      *directory
	log      *slog.Logger
	observer *Observer

	mu      sync.Mutex
	applied uint64
	moved   chan struct{} // closed and replaced when applied moves
	queue   []announced
	wake    chan struct{}

	// Only the goroutine that applies uses these.
	since  map[string]uint64      // where a row starts to want events, for rows announced fresh
	gaps   map[string][]relay.Gap // pauses of a row; readers have the lists, so they never change
	broken map[string]string      // id → reason, logged once
}

type announced struct {
	seq uint64
	relay.Announcement
}

func newWatcher(feed Feed, rows Subscriptions, dir *directory, log *slog.Logger, observer *Observer) *watcher {
	return &watcher{
		feed: feed, rows: rows, dir: dir, log: log, observer: observer,
		moved: make(chan struct{}), wake: make(chan struct{}, 1),
		since: map[string]uint64{}, gaps: map[string][]relay.Gap{}, broken: map[string]string{},
	}
}

// load fills the directory. It returns the sequences up to which events were
// acked and rows were announced. The announcements after acked must still be
// replayed before the first match: they tell where a row wants events, and a row
// announced just now may have been read as it was before.
func (w *watcher) load(ctx context.Context) (acked, control uint64, err error) {
	acked, control, err = w.feed.Bounds(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("read the bounds of the feed: %w", err)
	}
	clear(w.gaps) // inferred by an attempt that failed
	if err := w.reload(ctx, 0); err != nil {
		return 0, 0, err
	}
	if control <= acked {
		w.advance(control) // nothing to replay
	}
	return acked, control, nil
}

// reload reads every row; what is not among them was deleted. A status that no
// announcement told of holds from seq on; with 0, from before every event that is
// still to be matched.
func (w *watcher) reload(ctx context.Context, seq uint64) error {
	var changes []change
	found := map[string]bool{}
	err := w.rows.All(ctx, func(s relay.Subscription) error {
		found[s.ID] = true
		if s.Active {
			w.close(s.ID, seq)
		} else {
			w.open(s.ID, seq)
		}
		w.place(&s)
		changes = append(changes, change{ID: s.ID, Row: &s})
		return nil
	})
	if err != nil {
		return fmt.Errorf("load the subscriptions: %w", err)
	}
	w.dir.ids(func(id string) {
		if !found[id] {
			changes = append(changes, change{ID: id})
		}
	})
	maps.DeleteFunc(w.since, func(id string, _ uint64) bool { return !found[id] })
	maps.DeleteFunc(w.gaps, func(id string, _ []relay.Gap) bool { return !found[id] })
	w.put(changes)
	return nil
}

// note keeps what announcements tell of the rows' places in the stream. It alone
// decides where a row is paused: rows are read as they are now, which may be ahead
// of the announcement.
func (w *watcher) note(batch []announced) {
	for _, a := range batch {
		if a.Fresh {
			w.since[a.ID] = a.seq
			if a.Op != relay.OpUpdate.String() { // a new row
				delete(w.gaps, a.ID)
			}
		}
		switch {
		case a.Paused:
			w.open(a.ID, a.seq)
		case a.Resumed && len(w.gaps[a.ID]) == 0: // so it was inactive before
			w.gaps[a.ID] = []relay.Gap{{To: a.seq}}
		case a.Resumed:
			w.close(a.ID, a.seq)
		}
	}
}

// open begins a pause of the row at seq, unless the stream tells of a later status.
// A pause that goes on began where it did; but one from before all events was
// inferred from a row that had been read ahead of this announcement.
func (w *watcher) open(id string, seq uint64) {
	gaps := slices.Clone(w.gaps[id])
	n := len(gaps)
	switch {
	case w.since[id] > seq || n > 0 && gaps[n-1].To > seq:
		return
	case n > 0 && gaps[n-1] == relay.Gap{}:
		gaps = gaps[:n-1]
	case n > 0 && gaps[n-1].To == 0:
		return
	}
	gaps = append(gaps, relay.Gap{From: seq})
	w.gaps[id] = gaps[max(0, len(gaps)-maxGaps):]
}

// close ends the pause of the row at seq, if there is one from before.
func (w *watcher) close(id string, seq uint64) {
	gaps := slices.Clone(w.gaps[id])
	if n := len(gaps); n > 0 && gaps[n-1].To == 0 && gaps[n-1].From < seq {
		gaps[n-1].To = seq
		w.gaps[id] = gaps
	}
}

// place gives a row as it was read its place in the stream.
func (w *watcher) place(s *relay.Subscription) {
	s.Since, s.Gaps = w.since[s.ID], w.gaps[s.ID]
}

// listen reads announcements into the queue until ctx ends. It never waits for
// the database, so a slow one does not stall the stream's reader.
func (w *watcher) listen(ctx context.Context, after uint64) error {
	err := w.feed.Announcements(ctx, after, func(seq uint64, a relay.Announcement) error {
		w.mu.Lock()
		w.queue = append(w.queue, announced{seq, a})
		full := len(w.queue) >= 100*readBatch
		w.mu.Unlock()
		signal(w.wake)
		if full { // bounded: let apply catch up
			return w.drained(ctx)
		}
		return nil
	})
	if err == nil {
		err = errors.New("the feed ended")
	}
	return stopped(ctx, fmt.Errorf("read announcements: %w", err))
}

// drained waits until the queue is empty.
func (w *watcher) drained(ctx context.Context) error {
	for {
		w.mu.Lock()
		empty, moved := len(w.queue) == 0, w.moved
		w.mu.Unlock()
		if empty {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// apply brings queued announcements into the directory until ctx ends.
func (w *watcher) apply(ctx context.Context) error {
	for {
		w.mu.Lock()
		batch := w.queue[:min(len(w.queue), readBatch)]
		w.queue = w.queue[len(batch):]
		w.mu.Unlock()
		if len(batch) == 0 {
			select {
			case <-w.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		w.note(batch) // once, however often the rows are asked for
		err := retry(ctx, w.log, "read announced subscriptions", func() error { return w.applyBatch(ctx, batch) })
		if err != nil {
			return stopped(ctx, err)
		}
		w.advance(batch[len(batch)-1].seq)
	}
}

func (w *watcher) applyBatch(ctx context.Context, batch []announced) error {
	reload := uint64(0)
	var ids []string
	var xids []uint32
	seen, running := map[string]bool{}, map[uint32]bool{}
	for _, a := range batch {
		if a.XID != 0 && !running[a.XID] {
			running[a.XID] = true
			xids = append(xids, a.XID)
		}
		switch {
		case a.ID == "":
			reload = a.seq
		case !seen[a.ID]:
			seen[a.ID] = true
			ids = append(ids, a.ID)
		}
	}
	if err := w.rows.Ended(ctx, xids); err != nil {
		return fmt.Errorf("wait until announced subscriptions can be read: %w", err)
	}
	if reload > 0 {
		return w.reload(ctx, reload)
	}
	read, err := w.rows.Read(ctx, ids)
	if err != nil {
		return fmt.Errorf("read announced subscriptions: %w", err)
	}
	rows := make(map[string]*relay.Subscription, len(read))
	for i := range read {
		rows[read[i].ID] = &read[i]
	}
	changes := make([]change, 0, len(ids))
	for _, id := range ids {
		row := rows[id]
		if row == nil {
			delete(w.since, id)
			delete(w.gaps, id)
		} else {
			if !row.Active && w.dir.get(id) == nil {
				w.open(id, 0) // it was not there when the rows were loaded
			}
			w.place(row)
		}
		changes = append(changes, change{ID: id, Row: row})
	}
	w.put(changes)
	return nil
}

// put applies changes and reports, once for each reason, the rows that cannot be
// used.
func (w *watcher) put(changes []change) {
	for _, c := range changes {
		if c.Row == nil || c.Row.Broken == nil {
			delete(w.broken, c.ID)
			continue
		}
		if reason := c.Row.Broken.Error(); w.broken[c.ID] != reason {
			w.broken[c.ID] = reason
			w.log.Warn("subscription cannot be used, it receives nothing", "subscription_id", c.ID, "error", reason)
		}
	}
	w.dir.apply(changes)
	w.report()
}

// report tells how many rows there are, and how many of them cannot be used.
func (w *watcher) report() {
	w.observer.subscriptions(int(w.dir.size.Load()), int(w.dir.broken.Load()), int(w.dir.quarantined.Load()))
}

func (w *watcher) advance(seq uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.applied = max(w.applied, seq)
	close(w.moved)
	w.moved = make(chan struct{})
}

// waitApplied returns when the directory contains the announcement seq.
func (w *watcher) waitApplied(ctx context.Context, seq uint64) error {
	for warned := false; ; {
		w.mu.Lock()
		reached, moved := w.applied >= seq, w.moved
		w.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Second):
			if !warned {
				warned = true
				w.log.Warn("deliveries wait for a subscription change to be read", "stream_seq", seq)
			}
		}
	}
}
