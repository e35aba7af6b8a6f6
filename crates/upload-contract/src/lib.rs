#![doc = include_str!("../README.md")]

pub mod bad_input;
pub mod compose;
pub mod damaged;
pub mod disputed;
pub mod env_example;
pub mod openapi;

mod aftermath;
mod answers;
#[cfg(test)]
mod coverage;
mod hearing;
#[cfg(test)]
mod shapes;
mod subject;
mod wire;

mod access;
mod bad_bodies;
mod bad_files;
mod bad_json;
mod bad_requests;
mod connections;
mod crashes;
mod every_route;
mod images;
mod outages;
mod pinning;
mod posters;
mod posts;
mod profile;
mod quotas;
mod races;
mod rate_limits;
mod reading;
mod refusals;
mod roles;
mod routes;
mod service;
mod start_up;
mod tokens;
mod uploads;
mod web;

pub use subject::Strategy;

/// Names every case once. Each becomes a function that is called by name and, in a server's test crate, a `#[test]`. A case that this
/// list lacks is dead code, which does not pass the gate.
macro_rules! suite {
    ($dollar:tt $($module:ident: $($case:ident),+;)+) => {
        /// Runs one case against a server's binary.
        ///
        /// # Panics
        /// If the server breaks the promise, or if there is no such case.
        pub fn run(binary: &str, strategy: Strategy, module: &str, case: &str) {
            match (module, case) {
                $($((stringify!($module), stringify!($case)) => {
                    let name = concat!(stringify!($module), "::", stringify!($case));
                    subject::drive(name, binary, strategy, async |subject| $module::$case(subject).await);
                })+)+
                _ => panic!("there is no case {module}::{case}"),
            }
        }

        /// Every case, as `module::case`.
        pub const CASES: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($case))),+),+];

        /// One `#[test]` for each case of the contract: `contract_tests!(env!("CARGO_BIN_EXE_…"), Strategy::…)`.
        #[macro_export]
        macro_rules! contract_tests {
            ($dollar binary:expr, $dollar strategy:expr) => {
                $(mod $module {
                    $(#[test]
                    fn $case() {
                        ::upload_contract::run(
                            $dollar binary,
                            $dollar strategy,
                            stringify!($module),
                            stringify!($case),
                        );
                    })+
                })+
            };
        }
    };
}

suite! { $
    access:
        another_users_image_is_as_if_missing,
        the_token_is_judged_before_the_body;
    bad_bodies:
        a_form_that_is_none_stores_nothing,
        a_form_that_is_cut_stores_nothing,
        a_form_that_lies_about_its_length_stores_nothing,
        a_streamed_form_that_is_none_stores_nothing,
        a_form_that_ends_otherwise_than_foreseen_needs_the_length,
        a_file_name_is_never_kept;
    bad_files:
        what_is_no_image_is_refused_with_the_same_words_by_both,
        a_header_that_is_too_long_or_promises_too_much_is_refused,
        a_disputed_size_is_the_true_one_or_refused,
        a_damaged_copy_is_judged_by_its_head,
        an_empty_file_is_not_stored,
        one_byte_over_the_limit_is_not_stored;
    bad_json:
        every_body_that_does_not_fit_is_refused,
        a_text_of_the_wrong_length_is_refused,
        a_body_that_is_no_json_is_refused;
    bad_requests:
        a_json_body_whose_length_lies_changes_nothing,
        a_broken_request_does_not_hurt_the_server;
    connections:
        a_head_that_does_not_end_is_given_up,
        a_json_body_that_does_not_come_is_given_up,
        what_follows_a_refusal_is_not_read_for_ever,
        one_user_does_not_take_every_place,
        a_client_that_never_reads_is_given_up,
        idle_connections_make_room,
        two_thousand_that_keep_still_hurt_nobody;
    crashes:
        a_server_that_dies_after_its_copy_leaves_nothing_behind,
        a_copy_that_comes_late_leaves_nothing_behind;
    every_route:
        a_token_is_asked_for_wherever_there_is_a_caller,
        what_cannot_be_read_is_refused_everywhere,
        what_is_not_there_is_missing_everywhere,
        how_an_image_stands_is_told_wherever_it_is_used;
    images:
        an_image_is_created_for_every_path_and_format,
        a_form_has_one_shape_on_both_servers,
        a_declared_size_and_checksum_are_kept,
        a_size_that_cannot_be_is_refused_before_there_is_a_row,
        put_is_a_wish,
        put_can_be_the_only_way_to_the_store,
        a_form_is_renewed_while_the_image_is_pending,
        an_image_out_of_time_is_gone;
    outages:
        without_a_database_clients_are_told_to_come_back,
        whoever_finds_every_connection_in_use_is_told_to_come_back,
        a_request_that_outlasts_the_stop_is_told_so,
        without_a_store_an_image_stays_linkable,
        a_store_that_says_nothing_is_not_waited_for,
        without_credentials_nothing_is_signed,
        an_upload_that_changes_while_it_is_linked_is_not_linked,
        a_copy_that_is_not_what_was_verified_is_not_linked;
    pinning:
        what_is_linked_by_version_stays_whatever_its_form_writes,
        rows_of_both_modes_are_read_by_either,
        a_server_that_copies_checks_what_is_pinned_by_version,
        a_link_asks_the_store_as_often_as_its_mode_says,
        a_version_that_is_refused_is_gone;
    posters:
        a_host_gives_their_own_competition_a_poster,
        an_admin_gives_any_competition_a_poster,
        a_host_may_not_touch_anothers_competition,
        a_new_poster_takes_the_place_of_the_old,
        a_poster_is_linked_to_one_competition;
    posts:
        a_post_has_none_to_ten_images_in_order,
        eleven_images_or_one_twice_are_refused,
        one_bad_image_and_there_is_no_post,
        an_image_belongs_to_one_post,
        a_deleted_post_is_gone_with_its_images,
        another_member_cannot_delete_a_post;
    profile:
        the_first_link_is_created_and_the_second_is_the_same,
        me_shows_the_live_profile_image,
        a_new_profile_image_takes_the_place_of_the_old,
        deleting_is_answered_the_same_without_one,
        an_image_of_another_path_is_refused_and_stays_linkable,
        an_image_that_was_not_uploaded_can_be_linked_later,
        an_image_in_other_hands_is_answered_with_a_conflict;
    quotas:
        pending_images_are_limited_also_at_once_and_on_two_servers,
        bytes_a_day_are_limited;
    races:
        sixteen_links_at_once_make_one,
        links_through_two_servers_make_one,
        a_foreign_link_never_wins,
        two_images_at_once_leave_one_live,
        sixteen_posts_share_one_image_with_one,
        a_replayed_form_does_not_change_what_is_served,
        uploads_during_the_link_do_not_mix;
    rate_limits:
        a_user_has_a_limit_on_every_route_with_a_caller,
        an_address_has_a_limit_whatever_its_tokens_are,
        without_redis_requests_pass_and_are_counted;
    reading:
        an_image_is_read_while_a_live_link_exists,
        what_is_served_says_what_it_is,
        the_reader_key_alone_is_visible;
    refusals:
        a_refused_body_is_recorded_on_the_row,
        what_the_store_let_through_is_refused_at_link,
        a_refused_image_spoils_its_post_alone;
    roles:
        role_and_status_are_read_from_the_row,
        only_admins_and_hosts_have_competitions;
    service:
        limits_are_what_was_set,
        health_says_what_fails,
        asking_for_readiness_often_costs_the_store_nothing,
        a_running_server_whose_schema_moves_is_not_ready,
        metrics_count_without_what_clients_chose,
        a_link_and_an_upload_have_one_log_line_each;
    start_up:
        bad_input_is_refused_in_one_sentence,
        an_address_that_cannot_be_had_is_a_failure,
        a_schema_that_is_not_the_binarys_is_refused,
        a_bucket_that_keeps_no_versions_is_refused,
        a_stores_clock_that_is_off_is_noticed,
        a_databases_clock_that_is_off_is_noticed;
    tokens:
        every_other_token_is_refused,
        a_token_of_another_key_is_refused;
    uploads:
        one_client_creates_uploads_links_and_reads,
        an_upload_is_answered_as_s3_does,
        every_size_comes_back_as_it_went,
        the_last_upload_before_the_link_counts,
        a_form_works_only_as_it_was_given_out,
        a_form_ends_with_its_time,
        what_the_other_server_leaves_behind_is_linked,
        bytes_after_the_image_are_kept_and_served_as_its_type;
    web:
        pages_of_the_set_origins_may_call_and_others_may_not,
        the_forms_host_takes_uploads_from_pages,
        every_answer_has_an_id_of_its_own,
        a_trusted_proxys_id_is_kept,
        every_refusal_is_a_problem_document;
}
