package pgsource

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/dot-do/relay/internal/failpoint"
	"github.com/dot-do/relay/relay"
)

const (
	confirmDelay = 50 * time.Millisecond // confirmations within it share one status
	replyGap     = 50 * time.Millisecond // between two answers to an impatient server
	deadAfter    = 2 * time.Minute       // without a word from the server, though asked for one
)

// Start begins to stream from the slot's position. The exported snapshot ends here.
// relay.ErrSlotActive means that another process was faster.
func (s *Source) Start(ctx context.Context) error {
	if s.wire != nil {
		return errors.New("source was started before")
	}
	hijacked, err := s.repl.Hijack()
	if err != nil {
		return fmt.Errorf("start replication from slot %q: %w", s.cfg.Slot, err)
	}
	s.wire, s.repl = newWire(hijacked.Conn), nil
	stop := context.AfterFunc(ctx, func() { s.wire.stopReading(time.Now()) })
	err = s.handshake()
	if !stop() {
		return fmt.Errorf("start replication from slot %q: %w", s.cfg.Slot, context.Cause(ctx))
	}
	if err != nil {
		return err
	}
	r := newReader(s)
	s.wg.Go(func() {
		err := r.run(s.life)
		if s.life.Err() != nil {
			err = errClosed
		}
		s.out.fail(err)
	})
	s.wg.Go(func() { s.report(s.life, &r.heard) })
	return nil
}

// handshake sends START_REPLICATION and reads up to the server's agreement. The
// position 0/0 means the slot's own: the server would silently put any older one
// right, and silently skip to any newer one.
func (s *Source) handshake() error {
	command := fmt.Sprintf(`START_REPLICATION SLOT %s LOGICAL 0/0 (proto_version '1', publication_names %s, messages 'true')`,
		quote(s.cfg.Slot), literal(quote(s.cfg.Publication)))
	frame, err := (&pgproto3.Query{String: command}).Encode(nil)
	if err == nil {
		err = s.wire.send(frame)
	}
	for err == nil {
		var (
			kind byte
			body []byte
		)
		if kind, body, _, err = s.wire.next(); err != nil {
			break
		}
		switch kind {
		case 'W':
			return nil
		case 'E':
			pg, err := serverError(body)
			if err != nil {
				return err
			}
			return s.startError(pg)
		}
	}
	return fmt.Errorf("start replication from slot %q: %w", s.cfg.Slot, err)
}

// serverError reads an ErrorResponse or a NoticeResponse: they are built alike.
func serverError(body []byte) (*pgconn.PgError, error) {
	var msg pgproto3.ErrorResponse
	if err := msg.Decode(body); err != nil {
		return nil, fmt.Errorf("read the server's error: %w", err)
	}
	return pgconn.ErrorResponseToPgError(&msg), nil
}

// Next returns the next batch, as soon as there is one. After the connection broke
// it returns what was read before, and then the error.
func (s *Source) Next(ctx context.Context) (*relay.Batch, error) {
	if s.wire == nil {
		return nil, errors.New("source was not started")
	}
	b, err := s.out.next(ctx)
	if err != nil {
		return nil, err
	}
	return &b.Batch, nil
}

// Confirm lets the server forget everything up to lsn. It may be called from any
// goroutine, returns at once, and never moves back.
func (s *Source) Confirm(lsn relay.LSN) {
	if raise(&s.confirmed, uint64(lsn)) {
		signal(s.moved)
	}
}

// Received is how far the log was read.
func (s *Source) Received() relay.LSN { return relay.LSN(s.received.Load()) }

// report tells the server, until ctx ends, what is confirmed: on a timer, when the
// server asks, and soon after a Confirm.
func (s *Source) report(ctx context.Context, heard *heard) {
	ticker := time.NewTicker(s.cfg.StatusInterval)
	defer ticker.Stop()
	soon := time.NewTimer(time.Hour)
	soon.Stop()
	var last time.Time
	armed := false
	for {
		delay := time.Duration(-1)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-soon.C:
			armed = false
		case <-s.asked:
			delay = max(0, replyGap-time.Since(last))
		case <-s.moved:
			delay = confirmDelay
		}
		if delay > 0 {
			if !armed {
				soon.Reset(delay)
				armed = true
			}
			continue
		}
		silence := heard.silence()
		err := s.sendStatus(silence > s.deadAfter/4)
		last = time.Now()
		if err == nil && silence > s.deadAfter {
			err = fmt.Errorf("no word from the server for %s", s.deadAfter)
		}
		if err != nil {
			// The reader may still find out what the server had to say about it.
			s.wire.stopReading(last.Add(time.Second))
			s.log.DebugContext(ctx, "status not sent", "error", err)
			return
		}
	}
}

// sendStatus reports all three positions: a zero would be read as one of the
// others, and what is merely received must not pass for flushed.
func (s *Source) sendStatus(reply bool) error {
	failpoint.Hit(failpoint.BeforeFeedback)
	flush := s.confirmed.Load()
	return s.wire.status(max(s.received.Load(), flush), flush, reply)
}

// Close tells the server the last confirmed position, ends the stream in an orderly
// way and closes both connections. A stream that was broken before is no error.
func (s *Source) Close(ctx context.Context) error {
	var err error
	s.closed.Do(func() { err = s.close(ctx) })
	return err
}

func (s *Source) close(ctx context.Context) error {
	s.end()
	s.out.fail(errClosed)
	if s.wire != nil {
		s.wire.stopReading(time.Now())
		s.wg.Wait()
		s.out.drop()
	}
	var err error
	if s.wire != nil {
		err = s.leave(ctx)
		_ = s.wire.conn.Close() // everything was said
	}
	s.hangUp(ctx)
	if err != nil && !connectionBroken(err) {
		return fmt.Errorf("close the stream of slot %q: %w", s.cfg.Slot, err)
	}
	return nil
}

// leave waits until the server has released the slot. To close at once, with
// unread data, could take back the last status.
func (s *Source) leave(ctx context.Context) error {
	until := time.Now().Add(farewell)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	s.wire.resumeReading(until)
	stop := context.AfterFunc(ctx, func() { s.wire.resumeReading(time.Now()) })
	defer stop()
	if err := s.sendStatus(false); err != nil {
		return err
	}
	if err := s.wire.send([]byte{'c', 0, 0, 0, 4}); err != nil { // CopyDone
		return err
	}
	if err := s.wire.skipRest(); err != nil {
		return err
	}
	for {
		kind, _, _, err := s.wire.next()
		if err != nil {
			return err
		}
		if kind == 'Z' { // ready for query: the command has ended, the slot is free
			return s.wire.send([]byte{'X', 0, 0, 0, 4})
		}
	}
}

// connectionBroken tells a connection that is gone from one that would not end in
// time.
func connectionBroken(err error) bool { return !errors.Is(err, os.ErrDeadlineExceeded) }
