package natsstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// stored is a message read back through the API.
type stored struct {
	subject string
	seq     uint64
	header  nats.Header
}

type storedRequest struct {
	Seq    uint64 `json:"seq,omitempty"`
	LastBy string `json:"last_by_subj,omitempty"`
}

// read asks the stream's leader for one message; nil when there is none. The
// client library would let a follower answer where the stream allows that, and a
// follower may be behind.
func (c *Client) read(ctx context.Context, want storedRequest) (*stored, error) {
	body, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	msg, err := c.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+c.cfg.Stream, body)
	if err != nil {
		return nil, fmt.Errorf("read a message of stream %s: %w", c.cfg.Stream, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Header  []byte `json:"hdrs"`
		} `json:"message"`
	}
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return nil, fmt.Errorf("read a message of stream %s: %w", c.cfg.Stream, err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, nil
	case answer.Error != nil:
		return nil, fmt.Errorf("read a message of stream %s: %w", c.cfg.Stream, answer.Error)
	case answer.Message == nil:
		return nil, fmt.Errorf("read a message of stream %s: the answer holds none", c.cfg.Stream)
	}
	s := &stored{subject: answer.Message.Subject, seq: answer.Message.Seq}
	if len(answer.Message.Header) > 0 {
		if s.header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return nil, fmt.Errorf("read message %d of stream %s: %w", s.seq, c.cfg.Stream, err)
		}
	}
	return s, nil
}

// lastControl returns the sequence of the last announcement, 0 for none.
func (c *Client) lastControl(ctx context.Context) (uint64, error) {
	last, err := c.read(ctx, storedRequest{LastBy: controlSubjects})
	if err != nil || last == nil {
		return 0, err
	}
	return last.seq, nil
}

// info asks the stream's leader for the stream's settings and state.
func (c *Client) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	stream, err := c.js.Stream(ctx, c.cfg.Stream)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", c.cfg.Stream, c.explain(err))
	}
	return stream.CachedInfo(), nil
}

// session returns a context for questions to the server: it ends with the
// connection, over which no answer will come, and after apiTimeout.
func (c *Client) session(ctx context.Context) (context.Context, context.CancelFunc) {
	lost := c.link.lost()
	ctx, stop := context.WithTimeout(ctx, apiTimeout)
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-lost:
			cancel(errConnectionLost)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		stop()
		cancel(nil)
		<-watched
	}
}

// awaitConnection waits until there is a connection, for at most limit.
func (c *Client) awaitConnection(ctx context.Context, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.link.connected():
		return nil
	case <-c.link.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errDisconnected
	}
}

// explain adds what the server said when it forbade something: it forbids in
// passing, and the one who asked only sees silence, or the end of a batch that never
// began.
func (c *Client) explain(err error) error {
	api, refused := errors.AsType[*jetstream.APIError](err)
	switch {
	case refused && api.ErrorCode == codeBatchUnknown:
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed):
		return errDisconnected
	case !errors.Is(err, errSilence) && !errors.Is(err, context.DeadlineExceeded):
		return err
	}
	if denied := c.nc.LastError(); errors.Is(denied, nats.ErrPermissionViolation) {
		return fmt.Errorf("%w (%w)", err, denied)
	}
	return err
}

var errSilence = errors.New("the server is silent")

var (
	errDisconnected   = errors.New("no connection to NATS")
	errConnectionLost = errors.New("connection to NATS lost: read the tail to know what is stored")
)
