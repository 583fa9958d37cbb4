# cmake -D PAGE= -D OUTPUT= -P embed.cmake
# Writes the files of the folder PAGE into OUTPUT, as the strings that page.hpp declares.
function(literal name)
    set(text "")
    foreach(file ${ARGN})
        file(READ ${PAGE}/${file} content)
        if(content MATCHES "\\)page\"")
            message(FATAL_ERROR "${file} contains the end of the literal it shall become")
        endif()
        # one literal a file: they are joined by the compiler
        string(APPEND text "\nR\"page(${content})page\"")
    endforeach()
    set(literals "${literals}const char* const ${name} =${text};\n" PARENT_SCOPE)
endfunction()

set(literals "")
literal(page_style style.css)
literal(page_body body.html)
literal(page_start start.js)
literal(page_script base.js axes.js labels.js marks.js toggles.js training.js final.js learning.js behaviour.js
                    history.js quality.js series.js speed.js phases.js load.js collapse.js cost.js findings.js
                    tables.js main.js)
file(WRITE ${OUTPUT} "#include \"page.hpp\"\n\nnamespace compare {\n\n${literals}\n}  // namespace compare\n")
