#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "moe/experts/expert_bank.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::form_errors_test {

using moe::AnyForm;
using moe::ErrorCode;
using moe::FormKind;
using moe_test::contains;
using moe_test::error_of;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
const std::vector<float> memory(64);

/// A bank of 2 experts with d_model 3 and d_ff 4, of any form.
template <class Form>
void make_bank(const Form& form) {
    const auto in = moe::stacked(memory.data(), 2, 4, 3);
    const auto out = moe::stacked(memory.data(), 2, 3, 4);
    moe::ExpertBank<float, Form>(form, {in, in, out, {}, {}, {}});
}

template <class Form>
void check_refused(const Form& form, const std::string& text) {
    const auto error = error_of([&] { make_bank(form); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains(text));
}

/// A user's form with a setting of its own.
struct Scaled {
    float factor = 1;
    [[nodiscard]] static constexpr bool gated() noexcept { return true; }
    void validate() const { moe::ensure(factor > 0, ErrorCode::range, "Scaled: factor is ", factor); }
    float operator()(float gate, float up) const { return factor * gate * up; }
};

}  // namespace

TEST_CASE("a bank refuses a clamp that is not above 0, and names form and limit", "[form][errors]") {
    const std::vector<std::pair<double, std::string>> wrong{
        {0, "0"}, {-7, "-7"}, {-inf, "-inf"}, {not_a_number, "nan"}};
    for (const auto& [limit, value] : wrong) {
        const std::string is = ": limit is " + value;
        check_refused(moe::SwiGLUOai{.limit = limit}, "SwiGLUOai" + is);
        check_refused(moe::ClampedBefore<>{.limit = limit}, "ClampedBefore" + is);
        check_refused(moe::ClampedAfter<moe::Gelu>{.limit = limit}, "ClampedAfter" + is);
        check_refused(AnyForm{FormKind::swiglu_oai, limit}, "SwiGLUOai" + is);
        check_refused(AnyForm{FormKind::clamped_before, limit}, "ClampedBefore" + is);
        check_refused(AnyForm{FormKind::clamped_after, limit}, "ClampedAfter" + is);
    }
    for (const double limit : {1e-3, 7.0, inf}) {  // infinity clamps nothing
        CHECK_NOTHROW(make_bank(moe::SwiGLUOai{.limit = limit}));
        CHECK_NOTHROW(make_bank(AnyForm{FormKind::clamped_after, limit}));
    }
}

TEST_CASE("a bank refuses an alpha that is not above 0 or infinite in float", "[form][errors]") {
    const auto refused = [](double alpha, const std::string& is) {
        check_refused(moe::SwiGLUOai{.alpha = alpha}, "SwiGLUOai: alpha is " + is);
        check_refused(AnyForm{FormKind::swiglu_oai, 7, alpha}, "SwiGLUOai: alpha is " + is);
    };
    refused(0, "0");
    refused(-1.5, "-1.5");
    refused(inf, "inf");
    refused(1e39, "1e+39");
    refused(not_a_number, "nan");
    CHECK_NOTHROW(make_bank(AnyForm{FormKind::clamped_before, 7, not_a_number}));  // reads no alpha
}

TEST_CASE("a limit counts only for the clamped forms, a kind must be one", "[form][errors]") {
    CHECK_NOTHROW(make_bank(AnyForm{}));
    CHECK_NOTHROW(make_bank(AnyForm{FormKind::geglu, not_a_number}));
    check_refused(AnyForm{FormKind::clamped_after}, "limit is 0");  // the default of AnyForm
    check_refused(AnyForm{static_cast<FormKind>(14)}, "kind 14 is none");
    check_refused(AnyForm{static_cast<FormKind>(255)}, "kind 255 is none");
}

TEST_CASE("a user's form may check itself", "[form][errors]") {
    check_refused(Scaled{-2}, "Scaled: factor is -2");
    CHECK_NOTHROW(make_bank(Scaled{2}));
}

}  // namespace moe_test::form_errors_test
