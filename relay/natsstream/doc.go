// Package natsstream keeps the event log in NATS JetStream.
//
// A Client is one connection to one stream. Its Writer is the relay's Stream: the
// sole, fenced writer. Its Feed is the deliverers' end: a durable pull consumer
// that all delivery processes share. Embedded runs the real NATS server inside
// the process, for installations that have none.
//
// # How the writer keeps its promise
//
// Every message names the sequence it must follow (Nats-Expected-Last-Sequence),
// so thousands of messages can be on their way at once and the stream still takes
// all of them in order, or refuses the first that does not fit and those behind
// it. In a stream without replicas it names the id of the message before it as
// well (Nats-Expected-Last-Msg-Id): sequences alone would let a late message in
// when another writer took the places of its predecessors. So neither a second
// writer slips in between, nor a message of a process that was frozen and wakes up
// late. The writer never sends anything
// again by itself: after an error it refuses to append until Tail has been read,
// and the tail says what to send.
//
// # What a message carries
//
// The subject is events.<event type>, or the type itself for an announcement
// (relay.control.webhooks). The headers are CloudEvents' binary mode plus
//
//	Nats-Msg-Id    the event id; ctl_<position> for an announcement
//	Relay-Pos      position of the event, "0/16B3748:12:0"
//	Relay-Prev     position of the message before it; empty when unknown
//	Relay-Owner    who may see it: audience=owner&user=…&tenant=…, or audience=everyone
//	Relay-Control  sequence of the last announcement before it; 0 for none
//
// and the body is the event's JSON, byte for byte what webhooks receive.
package natsstream
