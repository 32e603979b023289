// Package failpoint marks places in the engine at which tests let a process fail.
//
// Without the build tag failpoint, which no release carries, Hit and Drop compile to
// nothing. With it the environment says what happens, where, and at which passage:
//
//	RELAY_FAILPOINTS="publish.sent=kill@250 publish.lost=drop@3"
//
// kill is kill -9 of the process by itself, panic panics, drop lets Drop return true.
// Each rule acts once.
package failpoint

// The places. Tests and the engine share the names.
const (
	BeforePublish    = "publish.before"    // a batch of events is about to be published
	Sent             = "publish.sent"      // one message was handed to the connection
	Lost             = "publish.lost"      // Drop: one message is numbered but not sent
	BeforeAck        = "publish.ack"       // the server has stored a message, its answer is not looked at yet
	BeforeCheckpoint = "checkpoint.before" // what is to be saved is stored, the checkpoint is not
	BeforeConfirm    = "confirm.before"    // the checkpoint is saved, the slot does not know
	BeforeFeedback   = "feedback.before"   // a status is about to be sent to Postgres
	Mapping          = "map.change"        // a row change is about to be mapped
)

// Places lists them all.
func Places() []string {
	return []string{BeforePublish, Sent, Lost, BeforeAck, BeforeCheckpoint, BeforeConfirm, BeforeFeedback, Mapping}
}
