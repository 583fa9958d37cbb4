#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "io/packed_support.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

/// Files whose experts lie apart.
namespace moe_test::packed_apart_test {

namespace {

using moe::ErrorCode;
using moe::PackedFile;
using moe::PackedOrder;
using moe::Verify;
using moe::detail::PackedHeader;

constexpr std::size_t apart = std::size_t{1} << 21U;

/// What write_packed makes of experts in that order, and those.
template <class F>
struct Written {
    moe_test::TemporaryDirectory directory;
    moe_test::LayerCase<moe_test::SourceOf<F>> layer_case;
    moe::PackedExperts<F, moe::AnyForm> packed{layer_case.bank()};
    std::string path = directory.file("experts.moe");

    explicit Written(PackedOrder order, const moe_test::LayerShape& shape = moe_test::odd_shape())
        : layer_case(shape, 5) {
        moe::write_packed(path, packed, moe_test::ThreadExecutor(2), order);
    }
};

/// Held against `expected`: panels and biases of every expert.
template <class F>
void check_same(const moe::PackedExperts<F, moe::AnyForm>& experts,
                const moe::PackedExperts<F, moe::AnyForm>& expected) {
    const auto& layout = experts.packed_layout();
    const auto& other = expected.packed_layout();
    REQUIRE(layout.weight_bytes() == other.weight_bytes());
    REQUIRE(layout.bias_bytes() == other.bias_bytes());
    REQUIRE(layout.weight_bytes() > 0);
    for (std::size_t e = 0; e < experts.n_experts(); ++e) {
        const auto weights = experts.data().subspan(layout.hidden_panel(e, 0), layout.weight_bytes());
        const auto wanted = expected.data().subspan(other.hidden_panel(e, 0), other.weight_bytes());
        CHECK(std::equal(weights.begin(), weights.end(), wanted.begin()));
        const auto biases = experts.data().subspan(layout.hidden_bias(e, 0), layout.bias_bytes());
        const auto wanted_biases = expected.data().subspan(other.hidden_bias(e, 0), other.bias_bytes());
        CHECK(std::equal(biases.begin(), biases.end(), wanted_biases.begin()));
    }
}

template <class F>
void check_orders() {
    INFO(moe::format_name<F>());
    const Written<F> written(PackedOrder::apart);
    for (const moe::ReadMode mode : {moe::ReadMode::map, moe::ReadMode::read}) {
        const PackedFile file = PackedFile::open(written.path, Verify::all, moe_test::ThreadExecutor(3), mode);
        CHECK(file.order() == PackedOrder::apart);
        const auto experts = file.experts<F>(moe::AnyForm{});
        check_same(experts, written.packed);
        const auto& layout = experts.packed_layout();
        CHECK(layout.expert_stride() == apart);
        for (std::size_t e = 0; e < experts.n_experts(); ++e) {
            CHECK(layout.hidden_panel(e, 0) % apart == 0);  // the data, too, begin at such a place of the file
            CHECK(layout.hidden_bias(e, 0) == layout.hidden_panel(e, 0) + layout.weight_bytes());
        }
        CHECK(file.data().size() == 2 * apart + layout.weight_bytes() + layout.bias_bytes());
    }
    // and back again: the bytes of a file that was written together
    const Written<F> together(PackedOrder::together);
    const PackedFile file = PackedFile::open(written.path);
    moe::write_packed(written.directory.file("back.moe"), file.experts<F>(moe::AnyForm{}), moe_test::ThreadExecutor(2));
    CHECK(moe_test::read_file(written.directory.file("back.moe")) == moe_test::read_file(together.path));
    // and as it is
    moe::write_packed(written.directory.file("same.moe"), file.experts<F>(moe::AnyForm{}), moe::SerialExecutor{},
                      PackedOrder::apart);
    CHECK(moe_test::read_file(written.directory.file("same.moe")) == moe_test::read_file(written.path));
}

/// Of Int8 experts: 3 of d_model 37 and d_ff 41, gated, apart.
const moe_test::Bytes& valid_file() {
    static const moe_test::Bytes file = moe_test::read_file(Written<moe::Int8>(PackedOrder::apart).path);
    return file;
}

int code_of(std::span<const std::byte> file, Verify verify = Verify::all) {
    const auto error = moe_test::caught([&] { (void)PackedFile::parse(file, verify); });
    return error ? static_cast<int>(error->code) : -1;
}

}  // namespace

TEST_CASE("experts that lie apart in a file are those that lie together", "[io][packed]") {
    check_orders<float>();
    check_orders<double>();
    check_orders<moe::bfloat16>();
    check_orders<moe::Int8>();
    check_orders<moe::Int4>();
}

TEST_CASE("an expert larger than the distance takes two", "[io][packed]") {
    moe_test::LayerShape shape = moe_test::odd_shape();
    shape.n_experts = 2;
    shape.d_model = 600;
    shape.d_ff = 500;  // 3.6 MB in float32
    const Written<float> written(PackedOrder::apart, shape);
    const PackedFile file = PackedFile::open(written.path);
    const auto experts = file.experts<float>(moe::AnyForm{});
    CHECK(experts.packed_layout().expert_stride() == 2 * apart);
    check_same(experts, written.packed);
}

TEST_CASE("what lies between experts is part of what is checked", "[io][packed]") {
    moe_test::Bytes file = valid_file();
    REQUIRE(code_of(file) == -1);
    REQUIRE(file.size() > 3 * apart);
    const std::pair<std::size_t, ErrorCode> places[] = {{PackedHeader::bytes, ErrorCode::header},
                                                        {apart - 1, ErrorCode::header},
                                                        {apart, ErrorCode::checksum},
                                                        {2 * apart - 1, ErrorCode::checksum},
                                                        {file.size() - 1, ErrorCode::checksum}};
    for (const auto& [at, code] : places) {
        file[at] ^= std::byte{0x40};
        CHECK(code_of(file) == static_cast<int>(code));
        CHECK(code_of(file, Verify::header) == -1);
        file[at] ^= std::byte{0x40};
    }
    file[apart - 1] = std::byte{1};
    const auto error = moe_test::error_of([&] { (void)PackedFile::parse(file); });
    CHECK_THAT(error.text, moe_test::contains("bytes 4096 to 2097152, before its data, are not all 0"));
}

TEST_CASE("a file of experts that lie apart is refused wherever it ends", "[io][packed]") {
    const moe_test::Bytes& whole = valid_file();
    for (const std::size_t size : {PackedHeader::bytes, PackedHeader::bytes + 1, apart - 1, apart, apart + 1, 2 * apart,
                                   3 * apart + 64, whole.size() - 1}) {
        CHECK(code_of(std::span(whole).first(size), Verify::header) == static_cast<int>(ErrorCode::truncated));
    }
    const auto error = moe_test::error_of([&] { (void)PackedFile::parse(std::span(whole).first(5000)); });
    CHECK_THAT(error.text, moe_test::contains("ends after 5000 bytes, its data begin after 2097152"));
    moe_test::Bytes longer = whole;
    longer.resize(whole.size() + 1);
    CHECK(code_of(longer) == static_cast<int>(ErrorCode::layout));
}

TEST_CASE("a file of one order under the header of the other is refused", "[io][packed]") {
    const auto relabelled = [](moe_test::Bytes file, std::uint32_t version) {
        const std::string context = "test";
        PackedHeader header = moe::detail::PackedHeaderParser(file, context).parse();
        header.version = version;
        header.data_bytes = file.size() - header.data_at();
        const auto bytes = moe::detail::packed_header_bytes(header);
        std::copy(bytes.begin(), bytes.end(), file.begin());
        return file;
    };
    CHECK(code_of(relabelled(valid_file(), PackedHeader::of_together)) == static_cast<int>(ErrorCode::layout));
    moe_test::LayerShape shape = moe_test::odd_shape();
    shape.d_model = shape.d_ff = 1000;  // long enough to have something where the data would begin
    CHECK(code_of(relabelled(moe_test::packed_file_bytes<moe::Int8>(shape), PackedHeader::of_apart)) ==
          static_cast<int>(ErrorCode::layout));
}

TEST_CASE("an order is one of the two", "[io][packed]") {
    const Written<float> written(PackedOrder::together);
    const auto error = moe_test::error_of(
        [&] { moe::write_packed(written.path, written.packed, moe::SerialExecutor{}, static_cast<PackedOrder>(2)); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, moe_test::contains("PackedOrder has no value 2"));
    CHECK(PackedFile::open(written.path).order() == PackedOrder::together);
}

}  // namespace moe_test::packed_apart_test
