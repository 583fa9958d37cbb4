#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../core/error.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI::detail {

/// Only there to be named in Json.
template <class T, class Enable = void>
struct JsonSerializer : nlohmann::adl_serializer<T, Enable> {};

/// nlohmann::json but for one parameter, which brings MOE_ABI into the names of its functions (all but small helpers):
/// the linker must not share them with a file of the program that includes nlohmann-json too, under other flags.
using Json = nlohmann::basic_json<std::map, std::vector, std::string, bool, std::int64_t, std::uint64_t, double,
                                  std::allocator, JsonSerializer>;

/// Turns nlohmann's events into those of `read_json`, and its errors into `Error`. Nothing here returns false, which
/// would end the parsing without one.
template <class Handler>
class JsonEvents {
public:
    JsonEvents(std::string_view text, std::string_view context, Handler& handler) noexcept
        : text_(text), context_(context), handler_(&handler) {}

    bool null() { return passed_on(&Handler::literal); }
    bool boolean(bool value) {
        if constexpr (requires { handler_->boolean(value); }) {
            handler_->boolean(value);
            return true;
        } else {
            return passed_on(&Handler::literal);
        }
    }
    bool start_object(std::size_t /*size*/) { return passed_on(&Handler::begin_object); }
    bool end_object() { return passed_on(&Handler::end_object); }
    bool start_array(std::size_t /*size*/) { return passed_on(&Handler::begin_array); }
    bool end_array() { return passed_on(&Handler::end_array); }
    bool key(std::string& text) { return passed_on(&Handler::key, std::move(text)); }
    bool string(std::string& text) { return passed_on(&Handler::string, std::move(text)); }
    bool number_unsigned(std::uint64_t value) { return passed_on(&Handler::natural, value); }
    /// Called for what is written with a minus sign and fits; -0 loses its sign on the way.
    bool number_integer(std::int64_t value) {
        return passed_on(&Handler::other_number, value == 0 ? std::string("-0") : std::to_string(value));
    }
    bool number_float(double /*value*/, const std::string& text) { return passed_on(&Handler::other_number, text); }
    /// There is none in JSON text.
    bool binary(Json::binary_t& /*value*/) { return true; }

    /// `read` bytes of the text have been read, the offending one included, or more than there are at its end.
    bool parse_error(std::size_t read, const std::string& token, const Json::exception& error) {
        constexpr int number_out_of_range = 406;
        if (error.id == number_out_of_range) {
            handler_->other_number(token);
            raise_error(ErrorCode::overflow, context_, ": the number ", in_quotes(token),
                        " is beyond the range of double");
        }
        const std::string_view reason = reason_of(error.what());
        const bool encoding = reason.find("UTF-8") != std::string_view::npos;
        const ErrorCode code = encoding ? ErrorCode::header : ErrorCode::syntax;
        const std::size_t at = read - (read > 0 ? 1 : 0);
        if (at >= text_.size()) {
            raise_error(code, context_, ": not JSON: the header ends at byte ", text_.size(), ": ", reason);
        }
        raise_error(code, context_, ": not JSON: ", in_quotes(text_.substr(at, 1)), " at byte ", at,
                    " of the header: ", reason);
    }

private:
    template <class... Parameters, class... Values>
    bool passed_on(void (Handler::*event)(Parameters...), Values&&... values) {
        (handler_->*event)(std::forward<Values>(values)...);
        return true;
    }

    /// Of "[json.exception...] ... - <reason>; last read: '<text>'": what is read there may be the whole file.
    [[nodiscard]] static std::string_view reason_of(std::string_view what) noexcept {
        constexpr std::size_t limit = 160;
        if (const std::size_t begin = what.find(" - "); begin != std::string_view::npos) {
            what.remove_prefix(begin + 3);
        }
        return what.substr(0, what.find("; last read:")).substr(0, limit);
    }

    std::string_view text_;
    std::string_view context_;
    Handler* handler_;
};

/// Reads JSON text front to back without building a value of it, so that a handler whose structure is known builds only
/// that. Memory: a few copies of the longest string or number, and one bit a level of nesting. `Handler` has the member
/// functions
///
///     void begin_object();  void end_object();  void begin_array();  void end_array();
///     void key(std::string);  void string(std::string);
///     void natural(std::uint64_t);          // an integer that fits and has no sign
///     void other_number(std::string_view);  // any other, as it is written
///     void literal();                       // true, false, null
///     void boolean(bool);                   // true and false, where there is such a member
///
/// which may raise an error. Throws, in a message that begins with `context` and names the byte, Error(syntax) for what
/// is not JSON, Error(header) for a string that is not UTF-8, Error(overflow) for a number that no double can hold, if
/// the handler lets it pass.
template <class Handler>
void read_json(std::string_view text, std::string_view context, Handler& handler) {
    // nlohmann's lexer takes a zero byte for the end of the text: whatever follows would be neither read nor refused.
    if (const std::size_t at = text.find('\0'); at != std::string_view::npos) {
        raise_error(ErrorCode::syntax, context, ": not JSON: ", in_quotes(text.substr(at, 1)), " at byte ", at,
                    " of the header");
    }
    JsonEvents<Handler> events(text, context, handler);
    (void)Json::sax_parse(text.data(), text.data() + text.size(), &events);
}

/// `text` as a JSON string, quotes included; nothing if it is not UTF-8.
[[nodiscard]] inline std::optional<std::string> json_string(std::string_view text) {
    // Asked to be strict, nlohmann throws, which is no option everywhere. Where replacing and dropping what is not
    // UTF-8 come to the same, there is none.
    const Json value(text);
    std::string replaced = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (replaced != value.dump(-1, ' ', false, Json::error_handler_t::ignore)) {
        return std::nullopt;
    }
    return replaced;
}

}  // namespace moe::inline MOE_ABI::detail
