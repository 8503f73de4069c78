"""A gRPC server for the tests: methods by name, messages as bytes. Prints its port."""
import sys, threading, time
from concurrent import futures
import grpc

name, options = sys.argv[1], [tuple(o.split("=")) for o in sys.argv[2:]]
lock, state = threading.Lock(), {"cancelled": 0, "peers": set(), "seen": {}}


def note(request_id):
    with lock:
        state["seen"][request_id] = state["seen"].get(request_id, 0) + 1


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    with lock:
        state["peers"].add(context.peer())
    note(request)
    context.send_initial_metadata((("x-name", name), ("x-own", metadata.get("x-own", "none"))))
    context.set_trailing_metadata((("x-sum", "7"), ("x-raw-bin", b"\x00\xff")))
    return request


def slow(request, context):
    with lock:
        state["peers"].add(context.peer())
    time.sleep(0.2)
    return request


def down(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def up(requests, context):
    total = sum(len(message) for message in requests)
    context.set_trailing_metadata((("x-total", str(total)),))
    return str(total).encode()


def both(requests, context):
    for message in requests:
        yield b"re: " + message


def fail(request, context):
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no: \u00e4 & %")


def fail_late(request, context):
    yield b"one"
    context.abort(grpc.StatusCode.DATA_LOSS, "later")


def forever(request, context):
    gone = threading.Event()

    def end():
        with lock:
            state["cancelled"] += 1
        gone.set()

    context.add_callback(end)
    yield b"begun"
    gone.wait(60)


def cancelled(request, context):
    return str(state["cancelled"]).encode()


def peers(request, context):
    return str(len(state["peers"])).encode()


def seen(request, context):
    with lock:
        return "\n".join(f"{key.decode()} {count}" for key, count in state["seen"].items()).encode()


def health(request, context):
    return b"\x08\x01"


def handlers():
    one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    methods = {f.__name__: one(f) for f in (unary, slow, fail, cancelled, peers, seen)}
    methods.update({f.__name__: many(f) for f in (down, fail_late, forever)})
    methods["up"] = grpc.stream_unary_rpc_method_handler(up)
    methods["both"] = grpc.stream_stream_rpc_method_handler(both)
    own = grpc.method_handlers_generic_handler("test.Test", methods)
    well = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": one(health)})
    return (own, well)


most = 32 << 20
server = grpc.server(
    futures.ThreadPoolExecutor(max_workers=64),
    handlers=handlers(),
    options=[("grpc.max_receive_message_length", most), ("grpc.max_send_message_length", most)]
    + [(key, int(value)) for key, value in options],
)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
# Ends gracefully when its starter closes the pipe: GOAWAY, and what it has may finish.
sys.stdin.read()
server.stop(grace=10).wait()
