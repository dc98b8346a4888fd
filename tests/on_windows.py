"""What of the tests does not apply to Windows, each with a reason that is true of it.

Files first, then tests by their names, without parameters or with them.  What does not exist (any more) is an error.
"""

FILES = {
    "test_example_inherited_listener.py": "Windows hands on no descriptors",
    "test_example_unix_server.py": "its clients are Unix sockets of the socket module, which has none on Windows",
    "test_signal.py": "its signals are those of Unix; test_console_signals.py has those of Windows",
    "test_fork.py": "there is no fork on Windows",
    "test_kqueue.py": "kqueue is not on Windows",
    "test_pipe.py": "a pipe on Windows has no descriptor that could be polled",
    "test_source_fd.py": "there is no metalio.unix on Windows; test_windows.py has sockets by their numbers",
    "test_unix_datagram.py": "Windows has no Unix datagrams",
    "test_unix_listener.py": "its peers are Unix sockets of the socket module, which has none on Windows",
    "test_unix_stream.py": "its streams are pairs, and its peers the socket module's, neither of which Windows has",
}

NO_LIMIT = "Windows has no limit of open sockets that a process could set for itself"
ONLY_SOCKETS = "on Windows only sockets can be polled; test_windows.py has what is said of other things"
NOT_TOLD = "the driver of sockets does not tell of what this side itself has shut down"

NO_PIPES = "on Windows pipes cannot be polled"
NUMBERS = "which handle is used next is for the kernel alone to choose"
NO_SEGMENTS = "Windows has no segmentation offload of this kind"
UNCOUNTED = "nothing tells how often a port was posted to"
NESTED = "the selector of Windows has no descriptor by which it could be polled"

NO_STOP = "Windows has no SIGSTOP"
NO_LOCK = "on Windows a signal does not end a wait for a lock, which is how a send waits there"

NO_PAIRS = "its streams are pairs of Unix sockets, which Windows does not make"
NO_UNIX = "it needs Unix sockets in the socket module, which has none on Windows"

WORDS = "Windows says it in other words"

TESTS = {
    "test_cli.py::TestEchoRefuses::test_port_in_use": WORDS,
    "test_cli.py::TestEchoRefuses::test_address_of_another_machine": WORDS,
    "test_read_buf.py::test_what_wraps_around_takes_one_system_call": "Windows has no pairs of packet sockets",
    "test_cli.py::TestInfo::test_waker_is_the_one_in_use": "Windows has one waker",
    "test_cli.py::TestEcho::test_serves_all_three_at_once": NO_UNIX,
    "test_cli.py::TestEcho::test_abstract_address": NO_UNIX,
    "test_cli.py::TestEcho::test_a_client_that_does_not_read[afd-unix]": NO_UNIX,
    "test_cli.py::TestEcho::test_out_of_descriptors": NO_LIMIT,
    "test_cli.py::TestEcho::test_stops_on_signals[afd-15]": "Windows sends no SIGTERM",
    "test_cli.py::TestEchoRefuses::test_bad_path": NO_UNIX,
    "test_cli.py::TestEchoRefuses::test_path_of_a_server": NO_UNIX,
    "test_cli.py::TestEchoRefuses::test_path_of_something_else": NO_UNIX,
    "test_cli.py::TestEchoRefuses::test_path_of_a_dead_server": NO_UNIX,
    "test_cli.py::TestEchoRefuses::test_a_path_that_became_another_servers_is_left_alone": NO_UNIX,
    "test_cli.py::TestCounters": "Windows has no pseudo-terminals of this kind",
    "test_example_supervisor.py::TestSupervisor::test_a_second_signal_kills": "there SIGTERM cannot be ignored",
    "test_examples.py::test_stops_on_signals[inherited_listener.py-arguments3-2]": "Windows hands on no descriptors",
    "test_example_event_loop_echo.py::TestEventLoopEcho::test_out_of_descriptors": NO_LIMIT,
    "test_example_tcp_server.py::TestTcpServer::test_out_of_descriptors": NO_LIMIT,
    "test_load.py::test_fewer_where_the_limit_is_low": NO_LIMIT,
    "test_signals.py::test_stopped_and_continued": NO_STOP,
    "test_channel.py::TestSignals::test_a_handler_that_closes": NO_LOCK,
    "test_channel.py::TestSignals::test_a_handler_that_makes_room_and_raises": NO_LOCK,
    "test_channel.py::TestSignals::test_a_handler_that_raises": NO_LOCK,
    "test_channel.py::TestSignals::test_a_handler_that_sends": NO_LOCK,
    "test_channel.py::TestSignals::test_it_goes_on_waiting": NO_LOCK,
    "test_channel.py::TestSignals::test_the_place_of_who_was_interrupted_goes_to_the_next": NO_LOCK,
    "test_channel.py::TestReadiness::test_one_wake_up_for_a_batch": UNCOUNTED,
    "test_event_loop.py::TestReadiness::test_a_hang_up_without_data": NO_PIPES,
    "test_event_loop.py::TestReadiness::test_who_only_writes_hears_that_nobody_reads": NO_PIPES,
    "test_timer.py::test_it_wakes_the_poll_for_nothing_else": "Windows has no count of wake-ups in /proc",
    "test_datagram_batch.py::test_receiving_and_sending_by_turns": NO_SEGMENTS,
    "test_documentation.py::test_the_code_of_a_document_runs[buf.md]": NO_PAIRS,
    "test_documentation.py::test_the_code_of_a_document_runs[slab.md]": NO_PAIRS,
    "test_documentation.py::test_the_code_of_a_document_runs[signal.md]": "its signals are those of Unix",
    "test_event.py::test_a_pipe_whose_reader_is_gone": NO_PIPES,
    "test_event.py::test_a_pipe_whose_writer_is_gone": NO_PIPES,
    "test_event.py::test_both_sides_shut_down": NOT_TOLD,
    "test_event.py::test_own_reading_side_shut_down": NOT_TOLD,
    "test_events.py::test_a_descriptor_that_is_used_again_within_a_batch": NUMBERS,
    "test_lifetime.py::test_a_foreign_token_stays_until_it_is_replaced": NUMBERS,
    "test_poll.py::test_fileno": NESTED,
    "test_readiness.py::test_it_is_seen_through_a_poll_within_a_poll": NESTED,
    "test_readiness.py::test_no_system_call_unless_a_poll_sleeps": UNCOUNTED,
    "test_readiness.py::test_what_is_not_asked_for_wakes_nobody": UNCOUNTED,
    "test_registry.py::test_a_poll_without_a_descriptor": NESTED,
    "test_tcp_listener.py::test_reuse_port": "Windows has no SO_REUSEPORT",
    "test_tcp_stream.py::test_write_after_the_peer_is_gone": "Windows has no SIGPIPE",
    "test_threads.py::test_closing_a_source_and_using_its_number_again_while_another_sleeps": NUMBERS,
    "test_udp_socket.py::test_memberships_v4_reach_the_kernel": "Windows has no list of memberships in /proc",
    "test_udp_socket.py::test_memberships_v6_reach_the_kernel": "Windows has no list of memberships in /proc",
    "test_udp_socket.py::test_reuse_port": "Windows has no SO_REUSEPORT",
    "test_poll.py::test_out_of_descriptors_at_first_use": NO_LIMIT,
    "test_poll.py::test_a_hang_up_is_reported_though_the_edge_was_not_drained": NOT_TOLD,
    "test_poll.py::test_its_own_shutdown_is_reported": NOT_TOLD,
    "test_registry.py::test_a_descriptor_that_is_not_open": ONLY_SOCKETS,
    "test_registry.py::test_high_descriptors": "handles are chosen by the kernel alone",
    "test_registry.py::test_kinds_of_foreign_sources": ONLY_SOCKETS,
    "test_registry.py::test_regular_files_and_directories": ONLY_SOCKETS,
    "test_stale.py::test_registrations_by_threads_during_rebuilds": NUMBERS,
    "test_stale.py::test_the_pipe_waker_survives": "Windows has one waker",
    "test_stale.py::test_used_again_by_a_pipe_and_by_a_file": ONLY_SOCKETS,
    "test_waker.py::test_only_the_first_wake_costs_a_system_call": UNCOUNTED,
}

# What Wine 8.0 does not do as Windows does; the socket module shows the same there.
RESETS = "Wine forgets that a connection was reset, and tells an end of the stream instead"
REFUSALS = "Wine does not tell that a datagram was refused; Windows tells it as a connection that was reset"

LATE = "Wine tells that a peer has shut down only when all before that was read"

FIRST = "Wine does not heed FILE_FLAG_FIRST_PIPE_INSTANCE; _winapi.CreateNamedPipe shows the same"

WINE = {
    "test_named_pipe.py::test_first": FIRST,
    "test_cli.py::TestEcho::test_a_reset_is_counted": RESETS,
    "test_read_buf.py::test_an_error_behind_the_first_piece_is_kept_for_the_next_call": RESETS,
    "test_event_loop.py::TestReadiness::test_hints": LATE,
    "test_event_loop.py::TestReadiness::test_ready_instead": LATE,
    "test_event_loop.py::TestReadiness::test_ready_may_pass_it_on": LATE,
    "test_datagram_batch.py::test_a_refusal_between": REFUSALS,
    "test_datagram_batch.py::test_a_refusal_is_raised_and_empties_the_batch": REFUSALS,
    "test_event.py::test_reset_by_the_peer": RESETS,
    "test_tcp_stream.py::test_a_refused_connection_tells_by_reading_and_writing": RESETS,
    "test_tcp_stream.py::test_linger": RESETS,
    "test_tcp_stream.py::test_read_after_a_reset": RESETS,
    "test_tcp_stream.py::test_refused": "Wine goes on telling how an attempt to connect ended",
    "test_tcp_stream.py::test_shutdown_of_a_connection_that_is_gone": RESETS,
    "test_tcp_stream.py::test_what_came_before_a_reset_is_not_lost": RESETS,
    "test_udp_socket.py::test_a_failed_bind_leaks_nothing": "Wine ignores options of IPv6 on IPv4 sockets",
    "test_udp_socket.py::test_a_refusal_is_raised_once": REFUSALS,
    "test_udp_socket.py::test_after_an_error_events_go_on": REFUSALS,
    "test_udp_socket.py::test_an_error_hides_no_datagram": REFUSALS,
    "test_udp_socket.py::test_take_error": REFUSALS,
}
