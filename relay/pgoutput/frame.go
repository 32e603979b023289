package pgoutput

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The first byte of the copy-data frames that a walsender sends.
const (
	TagXLogData  byte = 'w'
	TagKeepalive byte = 'k'
)

// tagStandbyStatus is the first byte of the frame that answers them.
const tagStandbyStatus byte = 'r'

// XLogData carries one message.
//
// In logical replication WALStart and WALEnd both are the position of the message itself, or
// 0 when the server sends several messages for one position, as with a Relation ahead of
// its first row. So a position kept from them must not go back to 0, and adding the length
// of Data to it means nothing.
type XLogData struct {
	WALStart uint64
	WALEnd   uint64
	SendTime Timestamp
	Data     []byte // aliases the frame
}

// ParseXLogData parses a frame, TagXLogData included.
func ParseXLogData(frame []byte) (XLogData, error) {
	r := reader{b: frame}
	if r.uint8("tag") != TagXLogData {
		return XLogData{}, errors.New("pgoutput: parse xlog data: tag at offset 0 is not w")
	}
	x := XLogData{
		WALStart: r.uint64("wal start"),
		WALEnd:   r.uint64("wal end"),
		SendTime: Timestamp(r.uint64("send time")),
	}
	x.Data = r.take(len(frame)-r.off, "data")
	if err := r.finish(); err != nil {
		return XLogData{}, fmt.Errorf("pgoutput: parse xlog data: %w", err)
	}
	return x, nil
}

// Keepalive tells how far the server has sent its log, when it has nothing else to say.
type Keepalive struct {
	WALEnd         uint64
	SendTime       Timestamp
	ReplyRequested bool // the server disconnects unless a status follows soon
}

// ParseKeepalive parses a frame, TagKeepalive included.
func ParseKeepalive(frame []byte) (Keepalive, error) {
	r := reader{b: frame}
	if r.uint8("tag") != TagKeepalive {
		return Keepalive{}, errors.New("pgoutput: parse keepalive: tag at offset 0 is not k")
	}
	k := Keepalive{
		WALEnd:         r.uint64("wal end"),
		SendTime:       Timestamp(r.uint64("send time")),
		ReplyRequested: r.uint8("reply requested") != 0,
	}
	if err := r.finish(); err != nil {
		return Keepalive{}, fmt.Errorf("pgoutput: parse keepalive: %w", err)
	}
	return k, nil
}

// AppendStandbyStatus appends to dst the frame that tells the server how far its log was
// written, flushed and applied here. The slot moves to flush: everything before it will
// not be sent again. All three go out as given; a 0 stays 0 and leaves the slot where it
// is. With reply, the server answers with a keepalive at once.
func AppendStandbyStatus(dst []byte, write, flush, apply uint64, now time.Time, reply bool) []byte {
	dst = append(dst, tagStandbyStatus)
	dst = binary.BigEndian.AppendUint64(dst, write)
	dst = binary.BigEndian.AppendUint64(dst, flush)
	dst = binary.BigEndian.AppendUint64(dst, apply)
	dst = binary.BigEndian.AppendUint64(dst, uint64(timestampOf(now)))
	if reply {
		return append(dst, 1)
	}
	return append(dst, 0)
}
