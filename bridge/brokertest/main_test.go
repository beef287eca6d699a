package main

import (
	"context"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func TestOpen(t *testing.T) {
	srv, err := Open("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- srv.Run(ctx) }()
	got := make(chan string, 1)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + srv.Addr("tcp").String()).SetClientID("clean retained"))
	wait := func(tok mqtt.Token) {
		t.Helper()
		if !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
			t.Fatal(tok.Error())
		}
	}
	wait(c.Connect())
	wait(c.Subscribe("TopicA/+", 2, func(_ mqtt.Client, m mqtt.Message) { got <- string(m.Payload()) }))
	wait(c.Publish("TopicA/B", 2, false, "x"))
	if p := <-got; p != "x" {
		t.Errorf("got %q", p)
	}
	refused := c.Subscribe("test/nosubscribe", 2, nil)
	refused.Wait()
	if code := refused.(*mqtt.SubscribeToken).Result()["test/nosubscribe"]; code != 0x80 {
		t.Errorf("SUBACK %02x, want 80", code)
	}
	c.Disconnect(10)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
