package relay

// StreamMessage is an event as it is read back from the stream, on its way to
// its subscribers.
type StreamMessage struct {
	Event   Event  // Body is owned by the message; Data lies inside Body
	Seq     uint64 // in the stream
	Control uint64 // sequence of the last announcement before this event; 0 for none

	// Again is true when the event was handed out before, here or elsewhere: some
	// of its deliveries may be settled already.
	Again bool

	// Err tells why the message is no usable event: someone else wrote it, or its
	// headers or body are damaged. Event then holds its Type and Body only. It has
	// to be acked like any other, or it comes again for ever.
	Err error

	// Token is the reader's own handle of the message.
	Token any
}
