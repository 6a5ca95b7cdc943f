import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.*;

/** Kafka's Java client: JavaCheck ADDRESS TOPIC CODEC RECORDS. The records are those of payload.py. */
public class JavaCheck {
    static final int PARTITIONS = 3;

    static byte[] key(int i) { return i % 7 == 0 ? null : ("key-" + i % 1000).getBytes(StandardCharsets.UTF_8); }

    static byte[] digest(int i) throws Exception {
        return MessageDigest.getInstance("SHA-256").digest(Integer.toString(i).getBytes(StandardCharsets.UTF_8));
    }

    static byte[] value(int i) throws Exception {
        if (i % 2 == 0) return ("value " + i + " ").repeat(i % 40).getBytes(StandardCharsets.UTF_8);
        byte[] digest = digest(i), out = new byte[digest.length * (i % 12)];
        for (int at = 0; at < out.length; at += digest.length) System.arraycopy(digest, 0, out, at, digest.length);
        return out;
    }

    static List<Header> headers(int i) throws Exception {
        if (i % 5 != 0) return List.of();
        return List.of(new RecordHeader("n", Integer.toString(i).getBytes(StandardCharsets.UTF_8)), new RecordHeader("digest", digest(i)));
    }

    public static void main(String[] args) throws Exception {
        String address = args[0], topic = args[1], codec = args[2];
        int count = Integer.parseInt(args[3]);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", address))) {
            admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1))).all().get();
        }
        try (var producer = new KafkaProducer<>(Map.of("bootstrap.servers", address, "compression.type", codec, "linger.ms", 5),
                new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < count; i++)
                sent.add(producer.send(new ProducerRecord<>(topic, i % PARTITIONS, null, key(i), value(i), headers(i))));
            for (int i = 0; i < count; i++)
                if (sent.get(i).get().offset() != i / PARTITIONS) throw new Exception("record " + i + " acknowledged at offset " + sent.get(i).get().offset());
        }
        try (var consumer = new KafkaConsumer<>(Map.<String, Object>of("bootstrap.servers", address, "enable.auto.commit", false),
                new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> all = new ArrayList<>();
            for (int p = 0; p < PARTITIONS; p++) all.add(new TopicPartition(topic, p));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            int[] at = new int[PARTITIONS];
            int read = 0;
            for (long deadline = System.nanoTime() + 120_000_000_000L; read < count && System.nanoTime() < deadline; )
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofSeconds(1))) {
                    int i = at[r.partition()] * PARTITIONS + r.partition();
                    if (r.offset() != at[r.partition()]++ || !Arrays.equals(r.key(), key(i)) || !Arrays.equals(r.value(), value(i))
                            || !Arrays.asList(r.headers().toArray()).equals(headers(i)))
                        throw new Exception("partition " + r.partition() + " offset " + r.offset() + " differs from record " + i);
                    read++;
                }
            if (read != count) throw new Exception("read " + read + " records, want " + count);
        }
    }
}
