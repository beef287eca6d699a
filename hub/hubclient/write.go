package hubclient

import (
	"devicehub/hub/wire"
)

// send queues a message for the connection, and starts the writer if none is at work. The lock is held. What is queued
// when the connection breaks is lost; whoever waits for an answer hears ErrDisconnected.
func (c *Client) send(m *wire.Message) error {
	data, binary, err := c.cfg.Version.AppendMessage(nil, m)
	if err != nil {
		return err
	}
	return c.queue(frame{data, binary})
}

func (c *Client) queue(f frame) error {
	switch {
	case c.conn == nil || c.cause != nil:
		return ErrDisconnected
	case len(c.out) >= c.cfg.Buffer:
		return ErrBufferFull
	}
	c.out = append(c.out, f)
	if !c.writing {
		c.writing = true
		c.wg.Add(1)
		go c.write(c.conn)
	}
	return nil
}

// write writes what is queued and ends. A failure drops the connection, so that the reader hears of it.
func (c *Client) write(t transport) {
	defer c.wg.Done()
	c.mu.Lock()
	for c.conn == t && len(c.out) > 0 {
		frames := c.out
		c.out = nil
		c.mu.Unlock()
		if c.cfg.Observe != nil {
			for _, f := range frames {
				c.cfg.Observe(Frame{Out: true, Binary: f.binary, Data: f.data})
			}
		}
		err := t.write(frames)
		c.mu.Lock()
		if err != nil {
			if c.cause == nil && c.conn == t {
				c.cause = err
			}
			c.writing = false
			c.quiet.Broadcast()
			c.mu.Unlock()
			t.drop()
			return
		}
	}
	c.writing = false
	c.quiet.Broadcast()
	closing := c.closed && c.conn == t
	c.mu.Unlock()
	if closing {
		t.close(1000, "")
	}
}

// SendRaw queues a frame as it is, valid or not, on the connection that stands. It is for tests of servers, and returns
// ErrDisconnected or ErrBufferFull if it cannot.
func (c *Client) SendRaw(data []byte, binary bool) error {
	c.mu.Lock()
	defer c.unlock()
	return c.queue(frame{data, binary})
}
