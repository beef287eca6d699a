package main

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
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
	for _, filter := range []string{"nosubscribe", "suite/test/nosubscribe", "TopicA/C"} {
		tok := c.Subscribe(filter, 1, nil)
		tok.Wait()
		if code, want := tok.(*mqtt.SubscribeToken).Result()[filter], map[bool]byte{true: 1, false: 0x80}[filter == "TopicA/C"]; code != want {
			t.Errorf("%s: SUBACK %02x, want %02x", filter, code, want)
		}
	}
	wait(c.Publish("$TopicA/B", 1, false, "x"))
	c.Disconnect(10)

	// MQTT 5: the server's keep-alive and a small Receive Maximum are told.
	nc, err := net.Dial("tcp", srv.Addr("tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	five := paho.NewClient(paho.ClientConfig{Conn: nc})
	ack, err := five.Connect(t.Context(), &paho.Connect{ClientID: "five", KeepAlive: 120, CleanStart: true})
	if err != nil {
		t.Fatal(err)
	}
	if p := ack.Properties; p.ServerKeepAlive == nil || *p.ServerKeepAlive != 60 || p.ReceiveMaximum == nil || *p.ReceiveMaximum != 20 || p.TopicAliasMaximum == nil {
		t.Errorf("CONNACK %+v", p)
	}
	_ = five.Disconnect(&paho.Disconnect{})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
