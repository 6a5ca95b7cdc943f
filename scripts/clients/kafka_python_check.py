"""kafka-python: kafka_python_check.py ADDRESS TOPIC CODEC RECORDS"""
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from payload import compare, record

address, topic, codec, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
PARTITIONS = 3
admin = KafkaAdminClient(bootstrap_servers=address)
admin.create_topics([NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1)])
admin.close()

producer = KafkaProducer(bootstrap_servers=address, compression_type=None if codec == "none" else codec, linger_ms=5, acks="all",
                         batch_size=65536)
futures = []
for i in range(count):
    key, value, headers = record(i)
    futures.append(producer.send(topic, value=value, key=key, headers=headers, partition=i % PARTITIONS))
producer.flush(120)
for future in futures:
    future.get(60)
producer.close()

consumer = KafkaConsumer(bootstrap_servers=address, group_id=None, enable_auto_commit=False)
consumer.assign([TopicPartition(topic, p) for p in range(PARTITIONS)])
consumer.seek_to_beginning()
got, deadline = [], time.monotonic() + 120
while len(got) < count and time.monotonic() < deadline:
    for messages in consumer.poll(timeout_ms=1000, max_records=5000).values():
        got += [(m.partition, m.offset, m.key, m.value or b"", list(m.headers)) for m in messages]
consumer.close()
compare(got, count, PARTITIONS)
