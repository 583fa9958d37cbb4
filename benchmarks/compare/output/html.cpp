#include <string_view>

#include "output.hpp"
#include "page.hpp"

namespace compare {

namespace {

/// JSON inside <script>: no `<`, so that no text can end the element or begin a comment in it.
std::string embedded(const std::string& json) {
    std::string text;
    text.reserve(json.size());
    for (const char c : json) {
        text += c == '<' ? std::string_view("\\u003c") : std::string_view(&c, 1);
    }
    return text;
}

}  // namespace

std::string to_html(const Report& report) {
    std::string page = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
    // a page without a network: a browser refuses whatever it should ever try to load
    page += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; ";
    page += "script-src 'unsafe-inline'\">\n<title>";
    page += report.cost.empty() ? "Routing strategies compared" : "What a mixture of experts costs";
    page += "</title>\n<style>\n";
    page += page_style;
    page += "</style>\n<script>\n";
    page += page_start;
    page += "</script>\n</head>\n<body>\n";
    page += page_body;
    page += "<script type=\"application/json\" id=\"data\">\n" + embedded(to_json(report)) + "</script>\n";
    page += "<script>\n(() => {\n\"use strict\";\n";
    page += page_script;
    return page + "})();\n</script>\n</body>\n</html>\n";
}

}  // namespace compare
