package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Sizes and times of a backfill.
const (
	chunkBytes    = 1 << 20
	firstRows     = 100
	maxRows       = 1000
	minRows       = 10
	maxTries      = 30                     // a row that changed at every one of them is left to its own events
	politeness    = 100 * time.Millisecond // from a watermark's commit to its place in the log; more means that live changes wait
	maxPause      = 5 * time.Second
	lookEvery     = time.Second // for requests
	writersEvery  = 50 * time.Millisecond
	writersNoted  = 2 * time.Second
	settlingMost  = 16 // backfills whose chunks are kept at a time
	backfillRetry = 2 * time.Second
)

// BackfillerConfig configures a Backfiller.
type BackfillerConfig struct {
	Desk      *BackfillDesk // required: that of the session's Capture
	Backfills Backfills     // required
	Registry  Registry      // required
	Slot      string        // required
	// Open connects to the tables. Required.
	Open func(ctx context.Context) (Tables, error)
	// Progress, when set, is told what a chunk added. It must return at once.
	Progress func(table string, p Progress)
	// Running, when set, is told how many rows are left of the running backfill, as
	// estimated, and with ok false that there is none.
	Running func(left int64, ok bool)
	Logger  *slog.Logger // defaults to slog.Default()
}

// Backfiller works on the backfills of a slot, one after the other, for as long as
// the session of the slot's Capture lasts. Another session, in this process or in
// another, goes on where it was.
//
// It reads a table chunk by chunk in the order of its key, each in a snapshot of its
// own, and commits a watermark behind each. Capture publishes the chunk at the place
// of its watermark in the log. A row that the log changed before that place, by a
// transaction which the snapshot did not see, is left out there and read again.
type Backfiller struct {
	cfg   BackfillerConfig
	log   *slog.Logger
	owner string
	// settling are done, but a power cut may still take rows of theirs from the stream.
	settling []*backfillRun
}

// NewBackfiller checks the configuration.
func NewBackfiller(cfg BackfillerConfig) (*Backfiller, error) {
	if cfg.Desk == nil || cfg.Backfills == nil || cfg.Registry == nil || cfg.Open == nil || cfg.Slot == "" {
		return nil, errors.New("a backfiller needs a desk, backfills, a registry, a slot and tables")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Backfiller{cfg: cfg, log: cfg.Logger.With("component", "backfill"), owner: rand.Text()}, nil
}

// Run works until ctx ends, and then returns nil. What goes wrong is logged and
// tried again; what cannot go right ends the backfill, not Run.
func (b *Backfiller) Run(ctx context.Context) error {
	select {
	case <-b.cfg.Desk.started:
	case <-ctx.Done():
		return nil
	}
	if b.cfg.Desk.broken != "" {
		if err := b.cfg.Backfills.FailBackfills(ctx, b.cfg.Slot, b.cfg.Desk.broken); err != nil {
			b.log.ErrorContext(ctx, "backfills of before the gap are not ended", "error", err)
		}
	}
	said := ""
	for ctx.Err() == nil {
		worked, err := b.next(ctx)
		switch {
		case err == nil:
			said = ""
		case ctx.Err() == nil:
			// The rights on the tables, for one, may be granted later.
			if text := err.Error(); text != said {
				said = text
				b.log.WarnContext(ctx, "backfill interrupted, trying again", "error", err)
			}
			pause(ctx, backfillRetry)
		}
		if !worked {
			pause(ctx, lookEvery)
		}
	}
	return nil
}

// next works on one backfill, if there is one.
func (b *Backfiller) next(ctx context.Context) (worked bool, err error) {
	if err := b.forgetSettled(ctx); err != nil {
		return false, err
	}
	job, err := b.cfg.Backfills.NextBackfill(ctx, b.cfg.Slot, b.settlingIDs())
	if err != nil || job == nil {
		return false, err
	}
	tables, err := b.cfg.Open(ctx)
	if err != nil {
		return false, err
	}
	defer tables.Close()
	defer b.cfg.Desk.unwatch()
	if b.cfg.Running != nil {
		defer b.cfg.Running(0, false)
	}
	r := &backfillRun{Backfiller: b, job: job, tables: tables, limit: firstRows, marks: map[int64]LSN{}, more: job.State != BackfillDone}
	err = r.run(ctx)
	var impossible *SetupError
	switch {
	case errors.Is(err, ErrBackfillStopped):
		b.log.InfoContext(ctx, "backfill stopped", "backfill", job.ID, "relation", job.Table)
		return true, nil
	case errors.As(err, &impossible):
		b.log.ErrorContext(ctx, "backfill failed", "backfill", job.ID, "relation", job.Table, "error", err)
		err = b.cfg.Backfills.FinishBackfill(ctx, job.ID, b.owner, BackfillFailed, err.Error(), Progress{})
		if errors.Is(err, ErrBackfillStopped) {
			err = nil
		}
		return true, err
	}
	return true, err
}

// backfillRun is a session's work on one backfill.
type backfillRun struct {
	*Backfiller
	job    *Backfill
	tables Tables

	limit  int           // rows of the next chunk
	redo   []Chunk       // rows to be read again, by the chunk that they were in
	marks  map[int64]LSN // of the chunks that are not settled; 0: nothing of it has to be
	last   Progress      // of the last chunk, not yet saved
	more   bool          // there may be rows behind the cursor
	paced  time.Time     // when the rate allows the next chunk
	reopen bool
}

func (r *backfillRun) run(ctx context.Context) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	for r.more || len(r.redo) > 0 {
		if err := r.wait(ctx); err != nil {
			return err
		}
		if r.reopen {
			if err := r.watch(ctx); err != nil {
				return err
			}
		}
		if err := r.chunk(ctx); err != nil {
			return err
		}
		if r.cfg.Running != nil {
			r.cfg.Running(max(0, r.job.Estimated-r.job.Rows), true)
		}
	}
	return r.settle(ctx)
}

// begin checks the request, makes it ours, and takes over what an earlier session
// left. When the barrier has come along, Capture has dealt with all of its chunks.
func (r *backfillRun) begin(ctx context.Context) error {
	catalog, err := r.cfg.Registry.Current(ctx, "")
	if err != nil {
		return err
	}
	if err := CheckBackfill(catalog, r.job.Table, r.job.EventType); err != nil {
		return err
	}
	key, estimated, err := r.tables.Check(ctx, r.job.Table, r.job.Where)
	if err != nil {
		return err
	}
	if r.job.Key != nil && !slices.Equal(r.job.Key, key) {
		return keyChanged(r.job.Table, r.job.Key, key)
	}
	if r.job.Key == nil {
		r.job.Key, r.job.Estimated = key, estimated
	}
	barrier, err := r.cfg.Backfills.ClaimBackfill(ctx, r.job, r.owner)
	if err != nil {
		return err
	}
	r.job.Chunk = barrier
	if _, err := r.cfg.Desk.await(ctx, chunkID{r.job.ID, barrier}); err != nil {
		return err
	}
	chunks, err := r.cfg.Backfills.Chunks(ctx, r.job.ID)
	if err != nil {
		return err
	}
	for _, c := range chunks {
		// One that did not come along in the log was confirmed before this session.
		l, _ := r.cfg.Desk.landing(chunkID{r.job.ID, c.Number})
		if r.marks[c.Number] = l.mark; len(c.Rows) == 0 {
			r.marks[c.Number] = 0
		}
		if len(c.Redo) > 0 {
			r.redo = append(r.redo, Chunk{Number: c.Number, Redo: c.Redo})
		}
	}
	r.log.InfoContext(ctx, "backfill begins", "backfill", r.job.ID, "relation", r.job.Table, "rows", r.job.Rows, "estimated", r.job.Estimated)
	return r.watch(ctx)
}

func keyChanged(table string, was, is []string) error {
	return &SetupError{
		Err:    fmt.Errorf("the key of %s was %s when the backfill began, and is %s", table, strings.Join(was, ", "), strings.Join(is, ", ")),
		Remedy: "start the backfill again",
	}
}

// settled lists the chunks that are safe in the stream and have nothing to be read
// again.
func (r *backfillRun) settled() (numbers []int64) {
	for number, mark := range r.marks {
		redo := slices.ContainsFunc(r.redo, func(c Chunk) bool { return c.Number == number })
		if !redo && r.cfg.Desk.settled(mark) {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// chunk reads the next rows, has them published, and learns what came of it.
func (r *backfillRun) chunk(ctx context.Context) error {
	step, rows, err := r.read(ctx)
	if err != nil {
		return err
	}
	step.Settled, step.Done = r.settled(), r.last
	step.Done.Rows = 0
	if step.Redo == nil {
		step.Done.Rows = int64(len(rows.Rows))
	}
	r.pace(len(rows.Rows))
	if step.Take == nil {
		if err := r.advance(ctx, step); err != nil {
			return err
		}
		return nil
	}
	id := chunkID{r.job.ID, step.Take.Number}
	laid := &laidChunk{chunkID: id, eventType: r.job.EventType, rows: rows, kept: step.Take.Rows, owner: r.owner}
	r.cfg.Desk.lay(laid)
	if err := r.advance(ctx, step); err != nil {
		return err
	}
	committed := time.Now()
	l, err := r.cfg.Desk.await(ctx, id)
	if err != nil {
		return err
	}
	return r.landed(ctx, id, l, time.Since(committed))
}

// read reads rows again, if there are any, or else those behind the cursor, and
// prepares the step that takes them.
func (r *backfillRun) read(ctx context.Context) (Step, RowChunk, error) {
	q := ChunkQuery{Table: r.job.Table, Where: r.job.Where, After: r.job.Cursor, Limit: r.limit, Bytes: chunkBytes}
	var again []ChunkRow
	if len(r.redo) > 0 {
		again = r.redo[0].Redo[:min(r.limit, len(r.redo[0].Redo))]
		q.Only = make([]RowKey, len(again))
		for i, row := range again {
			q.Only[i] = row.Key
		}
	}
	rows, err := r.tables.Read(ctx, q)
	if err != nil {
		return Step{}, rows, err
	}
	if !slices.Equal(rows.Key, r.job.Key) {
		return Step{}, rows, keyChanged(r.job.Table, r.job.Key, rows.Key)
	}
	var step Step
	kept := make([]ChunkRow, len(rows.Rows))
	for i, key := range rows.Keys {
		if slices.ContainsFunc(key, func(part string) bool { return !utf8.ValidString(part) }) {
			return Step{}, rows, &SetupError{
				Err:    fmt.Errorf("a key of %s is not valid UTF-8", r.job.Table),
				Remedy: "correct the row, or leave it out with --where; a database with encoding SQL_ASCII takes such values",
			}
		}
		kept[i] = ChunkRow{Key: key}
	}
	if again != nil {
		taken := len(again) // those that are not found are gone, or no longer asked for
		if rows.More {      // the bytes were too many for all of them
			last := kept[len(kept)-1].Key
			taken = 1 + slices.IndexFunc(again, func(row ChunkRow) bool { return slices.Equal(row.Key, last) })
		}
		step.Redo = &Chunk{Number: r.redo[0].Number, Redo: r.redo[0].Redo[taken:]}
		byKey := make(map[string]ChunkRow, taken)
		for _, row := range again[:taken] {
			byKey[row.Key.joined()] = row
		}
		for i, row := range kept {
			kept[i] = byKey[row.Key.joined()]
		}
	} else {
		r.more = rows.More
		if len(kept) > 0 {
			step.Cursor = kept[len(kept)-1].Key
		}
	}
	if len(kept) > 0 {
		r.job.Chunk++
		step.Take = &Chunk{Number: r.job.Chunk, Rows: kept}
	}
	return step, rows, nil
}

// advance commits the step, and notes it.
func (r *backfillRun) advance(ctx context.Context, step Step) error {
	if step.Take == nil && step.Redo == nil && step.Done == (Progress{}) && len(step.Settled) == 0 {
		return nil
	}
	if err := r.cfg.Backfills.AdvanceBackfill(ctx, r.job.ID, r.owner, step); err != nil {
		return err
	}
	r.job.add(step.Done)
	r.last = Progress{}
	if r.cfg.Progress != nil && step.Done.Rows > 0 {
		r.cfg.Progress(r.job.Table, Progress{Rows: step.Done.Rows})
	}
	if step.Cursor != nil {
		r.job.Cursor = step.Cursor
	}
	if step.Redo != nil {
		if r.redo[0].Redo = step.Redo.Redo; len(step.Redo.Redo) == 0 {
			r.redo = r.redo[1:]
		}
	}
	for _, number := range step.Settled {
		delete(r.marks, number)
		r.cfg.Desk.forget(chunkID{r.job.ID, number})
	}
	return nil
}

// landed takes over what came of a chunk, and sizes the next one: fewer rows and a
// pause while live changes wait.
func (r *backfillRun) landed(ctx context.Context, id chunkID, l landing, lag time.Duration) error {
	if l.orphan {
		return fmt.Errorf("chunk %d of backfill %s was published by nobody", id.number, id.backfill)
	}
	r.marks[id.number] = 0
	if l.events.Events > 0 {
		r.marks[id.number] = l.mark
	}
	r.last.add(l.events)
	redo := slices.DeleteFunc(l.redo, func(row ChunkRow) bool {
		if row.Tries < maxTries {
			return false
		}
		r.last.Overtaken++
		return true
	})
	if over := len(l.redo) - len(redo); over > 0 {
		r.log.WarnContext(ctx, "rows are left to their own events: they changed at every attempt to read them", "backfill", id.backfill, "rows", over)
	}
	if len(l.redo) > 0 {
		r.redo = append(r.redo, Chunk{Number: id.number, Redo: redo})
		if len(redo) == 0 {
			r.redo = r.redo[:len(r.redo)-1]
		}
	}
	r.reopen = l.flooded
	if r.cfg.Progress != nil {
		r.cfg.Progress(r.job.Table, Progress{Published: l.events.Published, Events: l.events.Events, Overtaken: r.last.Overtaken})
	}
	if lag > politeness {
		r.limit = max(minRows, r.limit/2)
		r.paced = later(r.paced, time.Now().Add(min(lag, maxPause)))
	} else {
		r.limit = min(maxRows, r.limit*2)
	}
	return nil
}
