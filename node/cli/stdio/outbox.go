package stdio

import (
	"context"
	"time"
)

// notifyTime is for the POST of a notification or a response.
const notifyTime = 30 * time.Second

// posting is a notification or response on its way to the node.
type posting struct {
	message
	after <-chan struct{}
	done  chan struct{}
}

// post queues a notification or a response. They keep their order.
func (r *relay) post(m message) {
	p := posting{message: m, after: r.barrier, done: make(chan struct{})}
	select {
	case r.outbox <- p:
	default:
		r.log.Error("dropped: too many notifications and responses wait for the node", "method", m.label())
		return
	}
	if m.method == "notifications/initialized" {
		r.barrier = p.done
	}
}

func (r *relay) sendOutbox(ctx context.Context) {
	for p := range r.outbox {
		select {
		case <-p.after:
			r.sendPosting(ctx, p)
		case <-ctx.Done():
		}
		close(p.done)
	}
}

func (r *relay) sendPosting(ctx context.Context, p posting) {
	limited, cancel := context.WithTimeout(ctx, notifyTime)
	defer cancel()
	send := r.session.post
	if p.modernVersion() != "" {
		send = r.modernPost
	}
	if err := send(limited, p.message); err != nil && ctx.Err() == nil {
		r.log.Error("notification or response not delivered", "method", p.label(), "error", err)
	}
}
