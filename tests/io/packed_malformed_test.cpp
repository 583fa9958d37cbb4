#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "io/packed_support.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::packed_malformed_test {

namespace {

using moe::Compute;
using moe::ErrorCode;
using moe::PackedFile;
using moe::Verify;
using moe::detail::PackedHeader;
using moe_test::AlignedBytes;
using moe_test::Bytes;
using moe_test::caught;
using moe_test::contains;
using moe_test::error_of;

constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();

/// A file of Int8 experts: 3 of d_model 37 and d_ff 41, gated.
const Bytes& valid_file() {
    static const Bytes file = moe_test::packed_file_bytes<moe::Int8>(moe_test::odd_shape());
    return file;
}

PackedHeader header_of(std::span<const std::byte> file) {
    const std::string context = "test";
    return moe::detail::PackedHeaderParser(file, context).parse();
}

/// The valid file under another header, sealed as if it had been meant.
Bytes with_header(const std::function<void(PackedHeader&)>& change) {
    Bytes file = valid_file();
    PackedHeader header = header_of(file);
    change(header);
    const auto bytes = moe::detail::packed_header_bytes(header);
    std::copy(bytes.begin(), bytes.end(), file.begin());
    return file;
}

int code_of(std::span<const std::byte> file, Verify verify = Verify::all) {
    const auto error = caught([&] { (void)PackedFile::parse(file, verify); });
    return error ? static_cast<int>(error->code) : -1;
}

struct Case {
    const char* what;
    std::function<void(PackedHeader&)> change;
    ErrorCode code;
    std::vector<std::string> texts;
};

const std::vector<Case>& bad_headers() {
    static const std::vector<Case> cases{
        {"version 0", [](auto& h) { h.version = 0; }, ErrorCode::format, {"version is 0", "reads versions 1 and 2"}},
        {"version 2", [](auto& h) { h.version = 2; }, ErrorCode::truncated, {"its data begin after 2097152"}},
        {"version 3", [](auto& h) { h.version = 3; }, ErrorCode::format, {"version is 3", "reads versions 1 and 2"}},
        {"version byte-swapped", [](auto& h) { h.version = 0x01000000U; }, ErrorCode::format, {"version is 16777216"}},
        {"the other byte order",
         [](auto& h) { h.byte_order = PackedHeader::foreign_order; },
         ErrorCode::format,
         {"big-endian", "little-endian"}},
        {"no byte order", [](auto& h) { h.byte_order = 0x01020403U; }, ErrorCode::header, {"16909315", "16909060"}},
        {"format 0", [](auto& h) { h.format = 0; }, ErrorCode::unknown_type, {"the number 0"}},
        {"format 7", [](auto& h) { h.format = 7; }, ErrorCode::unknown_type, {"the number 7"}},
        {"format 2^32 - 1", [](auto& h) { h.format = 0xFFFFFFFFU; }, ErrorCode::unknown_type, {"4294967295"}},
        {"narrower panels", [](auto& h) { h.panel_width = 32; }, ErrorCode::format, {"have 32", "Int8", "have 64"}},
        {"panels of nothing", [](auto& h) { h.panel_width = 0; }, ErrorCode::format, {"have 0", "have 64"}},
        {"groups of 64", [](auto& h) { h.group = 64; }, ErrorCode::format, {"have 64", "Int8", "have 32"}},
        {"groups of 1", [](auto& h) { h.group = 1; }, ErrorCode::format, {"have 1 ", "have 32"}},
        {"gated 2", [](auto& h) { h.gated = 2; }, ErrorCode::range, {"gated 2"}},
        {"plain", [](auto& h) { h.gated = 0; }, ErrorCode::layout, {"3 experts of d_model 37 and d_ff 41"}},
        {"a float format", [](auto& h) { h.format = 1, h.group = 1; }, ErrorCode::layout, {"are not those of"}},
        {"Int4", [](auto& h) { h.format = 6; }, ErrorCode::layout, {"are not those of"}},
        {"d_model 0", [](auto& h) { h.d_model = 0; }, ErrorCode::range, {"d_model 0"}},
        {"d_ff 0", [](auto& h) { h.d_ff = 0; }, ErrorCode::range, {"d_ff 0"}},
        {"no experts", [](auto& h) { h.n_experts = 0; }, ErrorCode::range, {"0 experts"}},
        {"all sizes 0", [](auto& h) { h.d_model = h.d_ff = h.n_experts = 0; }, ErrorCode::range, {"none may be 0"}},
        {"one expert more", [](auto& h) { ++h.n_experts; }, ErrorCode::layout, {"4 experts"}},
        {"one expert less", [](auto& h) { --h.n_experts; }, ErrorCode::layout, {"2 experts"}},
        {"larger d_model", [](auto& h) { h.d_model = 65; }, ErrorCode::layout, {"d_model 65"}},
        {"larger d_ff", [](auto& h) { h.d_ff = 65; }, ErrorCode::layout, {"d_ff 65"}},
        {"d_model of 2^64 - 1", [](auto& h) { h.d_model = most; }, ErrorCode::layout, {"18446744073709551615"}},
        {"d_ff of 2^64 - 1", [](auto& h) { h.d_ff = most; }, ErrorCode::layout, {"18446744073709551615"}},
        {"2^64 - 1 experts", [](auto& h) { h.n_experts = most; }, ErrorCode::layout, {"18446744073709551615"}},
        {"a product of 2^64",
         [](auto& h) { h.d_model = h.d_ff = std::uint64_t{1} << 32U; },
         ErrorCode::layout,
         {"4294967296"}},
        {"a product of 2^64 with the experts",
         [](auto& h) { h.d_model = h.d_ff = 16, h.n_experts = std::uint64_t{1} << 56U; },
         ErrorCode::layout,
         {"72057594037927936"}},
        {"all sizes 2^64 - 1",
         [](auto& h) { h.d_model = h.d_ff = h.n_experts = most; },
         ErrorCode::layout,
         {"18446744073709551615"}},
        {"a byte less of data", [](auto& h) { --h.data_bytes; }, ErrorCode::layout, {"and has"}},
        {"a byte more of data", [](auto& h) { ++h.data_bytes; }, ErrorCode::truncated, {"ends after"}},
        {"no data", [](auto& h) { h.data_bytes = 0; }, ErrorCode::layout, {"announces 0 bytes"}},
        {"2^64 - 1 bytes of data", [](auto& h) { h.data_bytes = most; }, ErrorCode::truncated, {"1844674407370955161"}},
        {"data whose end wraps to the end of the file",
         [](auto& h) { h.data_bytes -= 4096; },
         ErrorCode::layout,
         {"and has"}},
        {"another checksum", [](auto& h) { ++h.data_checksum; }, ErrorCode::checksum, {"data are damaged"}},
    };
    return cases;
}

}  // namespace

TEST_CASE("a header that announces what cannot be is refused by name", "[io][packed]") {
    REQUIRE(code_of(with_header([](auto&) {})) == -1);
    for (const Case& bad : bad_headers()) {
        INFO(bad.what);
        const Bytes file = with_header(bad.change);
        const auto error = error_of([&] { (void)PackedFile::parse(file); });
        CHECK(static_cast<int>(error.code) == static_cast<int>(bad.code));
        CHECK_THAT(error.text, contains("packed bytes: "));
        for (const std::string& text : bad.texts) {
            CHECK_THAT(error.text, contains(text));
        }
        const int trusted = bad.code == ErrorCode::checksum ? -1 : static_cast<int>(bad.code);
        CHECK(code_of(file, Verify::header) == trusted);
    }
}

TEST_CASE("sizes that wrap in a file of nothing but a header are refused", "[io][packed]") {
    for (const std::uint64_t size : {std::uint64_t{1}, std::uint64_t{1} << 32U, std::uint64_t{1} << 63U, most}) {
        for (const std::uint64_t experts : {std::uint64_t{1}, std::uint64_t{1} << 63U, most}) {
            Bytes file = with_header([&](PackedHeader& h) {
                h.d_model = h.d_ff = size;
                h.n_experts = experts;
                h.data_bytes = 0;
            });
            file.resize(PackedHeader::bytes);
            CHECK(code_of(file) == static_cast<int>(ErrorCode::layout));
        }
    }
}

TEST_CASE("any byte of the header that is not as it was written is found", "[io][packed]") {
    Bytes file = valid_file();
    for (std::size_t at = 0; at < PackedHeader::bytes; ++at) {
        for (const std::byte flip : {std::byte{0x01}, std::byte{0x80}, std::byte{0xFF}}) {
            file[at] ^= flip;
            const ErrorCode expected = at < PackedHeader::version_at ? ErrorCode::header
                                       : at < PackedHeader::order_at ? ErrorCode::format
                                                                     : ErrorCode::checksum;
            const int code = code_of(file, Verify::header);
            if (code != static_cast<int>(expected)) {
                FAIL("byte " << at << " gave " << code << ", not " << static_cast<int>(expected));
            }
            file[at] ^= flip;
        }
    }
    REQUIRE(code_of(file) == -1);
}

TEST_CASE("bytes where the header defines none are refused even under a right checksum", "[io][packed]") {
    for (const std::size_t at : {PackedHeader::end, std::size_t{2000}, PackedHeader::bytes - 1}) {
        moe::detail::PackedHeaderBytes header;
        std::copy_n(valid_file().begin(), header.size(), header.begin());
        header[at] = std::byte{1};
        moe::detail::put_little_endian(moe::detail::header_checksum(header), header.data() + PackedHeader::checksum_at);
        Bytes file = valid_file();
        std::copy(header.begin(), header.end(), file.begin());
        const auto error = error_of([&] { (void)PackedFile::parse(file); });
        CHECK(error.code == ErrorCode::header);
        CHECK_THAT(error.text, contains("not all 0"));
    }
}

TEST_CASE("damaged data are found wherever they are, unless they are trusted", "[io][packed]") {
    Bytes file = valid_file();
    const std::size_t last = file.size() - 1;
    for (std::size_t at = PackedHeader::bytes; at <= last; at += at + 97 <= last || at == last ? 97 : last - at) {
        file[at] ^= std::byte{0x10};
        REQUIRE(code_of(file) == static_cast<int>(ErrorCode::checksum));
        REQUIRE(code_of(file, Verify::header) == -1);
        file[at] ^= std::byte{0x10};
    }
    file[last] ^= std::byte{0x10};
    const PackedFile trusted = PackedFile::parse(file, Verify::header);
    const auto error = error_of([&] { trusted.check_data(); });
    CHECK(error.code == ErrorCode::checksum);
    CHECK_THAT(error.text, contains("packed bytes: its data are damaged"));
}

TEST_CASE("every truncation is reported as one, every byte behind the end as another layout", "[io][packed]") {
    const Bytes& whole = valid_file();
    for (std::size_t size = 0; size < whole.size(); size += size < PackedHeader::bytes + 100 ? 1 : 61) {
        const Bytes prefix(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        if (code_of(prefix, Verify::header) != static_cast<int>(ErrorCode::truncated)) {
            FAIL("a prefix of " << size << " bytes gave " << code_of(prefix, Verify::header));
        }
    }
    for (const std::size_t more : {1U, 64U, 4096U}) {
        Bytes longer = whole;
        longer.resize(whole.size() + more);
        CHECK(code_of(longer) == static_cast<int>(ErrorCode::layout));
    }
}

TEST_CASE("files on disk are refused by their name", "[io][packed]") {
    const moe_test::TemporaryDirectory directory;
    const std::string path = directory.file("experts.moe");
    CHECK(error_of([&] { (void)PackedFile::open(path); }).code == ErrorCode::file);
    moe_test::write_file(path, std::span(valid_file()).first(5000));
    for (const moe::ReadMode mode : {moe::ReadMode::map, moe::ReadMode::read}) {
        const auto error = error_of([&] { (void)PackedFile::open(path, Verify::all, moe::SerialExecutor{}, mode); });
        CHECK(error.code == ErrorCode::truncated);
        CHECK_THAT(error.text, contains("packed file '") && contains("experts.moe'"));
    }
    moe_test::write_file(path, {});
    CHECK(error_of([&] { (void)PackedFile::open(path); }).code == ErrorCode::truncated);
    Bytes text;
    moe_test::append(text, "no such thing");
    moe_test::write_file(path, text);
    CHECK(error_of([&] { (void)PackedFile::open(path); }).code == ErrorCode::header);
}

TEST_CASE("experts are given only as what they are", "[io][packed]") {
    const AlignedBytes aligned(valid_file());
    const PackedFile file = PackedFile::parse(aligned.span());
    const moe::AnyForm form{};
    const auto refused = [&]<class F>() {
        const auto error = error_of([&] { (void)file.experts<F>(form); });
        CHECK(error.code == ErrorCode::format);
        CHECK_THAT(error.text,
                   contains("holds Int8") && contains(std::string("asked for are ") + moe::format_name<F>()));
    };
    refused.operator()<float>();
    refused.operator()<double>();
    refused.operator()<moe::bfloat16>();
    refused.operator()<moe::float16>();
    refused.operator()<moe::Int4>();
    CHECK_NOTHROW(file.experts<moe::Int8>(form, Compute::int8));

    const auto plain = error_of([&] { (void)file.experts<moe::Int8>(moe::Plain<moe::Gelu>{}); });
    CHECK(plain.code == ErrorCode::format);
    CHECK_THAT(plain.text, contains("holds gated") && contains("given is plain"));
    const auto limit = error_of([&] { (void)file.experts<moe::Int8>(moe::ClampedAfter<>{.limit = -1.0}); });
    CHECK(limit.code == ErrorCode::range);

    const AlignedBytes floats(moe_test::packed_file_bytes<float>(moe_test::odd_shape(moe::FormKind::gelu)));
    const PackedFile other = PackedFile::parse(floats.span());
    const auto gated = error_of([&] { (void)other.experts<float>(form); });
    CHECK(gated.code == ErrorCode::format);
    CHECK_THAT(gated.text, contains("holds plain") && contains("given is gated"));
    const auto compute = error_of([&] { (void)other.experts<float>(moe::Plain<moe::Gelu>{}, Compute::int8); });
    CHECK(compute.code == ErrorCode::range);
}

TEST_CASE("a stored format is a number there is", "[io][packed]") {
    const auto name = []<class F>() { return std::string(moe::format_name<F>()); };
    CHECK(moe::visit_stored_format(moe::StoredFormat::float32, name) == "float32");
    CHECK(moe::visit_stored_format(moe::StoredFormat::float64, name) == "float64");
    CHECK(moe::visit_stored_format(moe::StoredFormat::bfloat16, name) == "bfloat16");
    CHECK(moe::visit_stored_format(moe::StoredFormat::float16, name) == "float16");
    CHECK(moe::visit_stored_format(moe::StoredFormat::int8, name) == "Int8");
    CHECK(moe::visit_stored_format(moe::StoredFormat::int4, name) == "Int4");
    const auto unknown = error_of([&] { moe::visit_stored_format(static_cast<moe::StoredFormat>(7), name); });
    CHECK(unknown.code == ErrorCode::unknown_type);
}

}  // namespace moe_test::packed_malformed_test
