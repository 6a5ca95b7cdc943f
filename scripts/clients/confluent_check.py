"""confluent-kafka (librdkafka): confluent_check.py ADDRESS TOPIC CODEC RECORDS"""
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from payload import compare, record

address, topic, codec, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
PARTITIONS = 3
admin = AdminClient({"bootstrap.servers": address})
for future in admin.create_topics([NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1)]).values():
    future.result(60)

errors = []
producer = Producer({"bootstrap.servers": address, "compression.type": codec, "linger.ms": 5, "enable.idempotence": True})
for i in range(count):
    key, value, headers = record(i)
    while True:
        try:
            producer.produce(topic, value, key, partition=i % PARTITIONS, headers=headers,
                             on_delivery=lambda err, _: err and errors.append(err))
            break
        except BufferError:
            producer.poll(0.1)
    producer.poll(0)
left = producer.flush(120)
if left or errors:
    raise SystemExit(f"{left} records not delivered, errors {errors[:3]}")

consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False, "enable.auto.offset.store": False})
consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
got, deadline = [], time.monotonic() + 120
while len(got) < count and time.monotonic() < deadline:
    for message in consumer.consume(5000, 1.0):
        if message.error():
            raise SystemExit(message.error())
        got.append((message.partition(), message.offset(), message.key(), message.value() or b"", message.headers() or []))
consumer.close()
compare(got, count, PARTITIONS)
